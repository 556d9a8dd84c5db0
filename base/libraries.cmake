target_link_libraries(ballast_base PUBLIC Threads::Threads PRIVATE hdf5::hdf5 tomlplusplus::tomlplusplus
  nlohmann_json::nlohmann_json fmt::fmt spdlog::spdlog PkgConfig::libxxhash)

# The commit is looked up at every build; only build_info.cpp is compiled anew when it changed.
add_custom_target(ballast_commit
  COMMAND ${CMAKE_COMMAND} -DROOT=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_BINARY_DIR}/generated/ballast_commit.h
    -P ${CMAKE_SOURCE_DIR}/scripts/git_commit.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/generated/ballast_commit.h)
add_dependencies(ballast_base ballast_commit)
target_include_directories(ballast_base PRIVATE ${CMAKE_BINARY_DIR}/generated)
set_source_files_properties(${CMAKE_SOURCE_DIR}/base/build_info.cpp PROPERTIES
  COMPILE_DEFINITIONS "BALLAST_VERSION=\"${PROJECT_VERSION}\";BALLAST_BUILD_TYPE=\"${CMAKE_BUILD_TYPE}\";BALLAST_SANITIZERS=\"${BALLAST_SANITIZE}\"")

if(BALLAST_MPI)   # else communicator_none.cpp refuses to be one of several processes
  target_link_libraries(ballast_base PRIVATE MPI::MPI_CXX)
endif()
