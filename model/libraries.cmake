target_link_libraries(ballast_model PRIVATE nlohmann_json::nlohmann_json fmt::fmt)
# Each family's file has the same functions, so none shares a translation unit (ballast_unity).
file(GLOB families CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/model/families/*.cpp)
set_source_files_properties(${families} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
