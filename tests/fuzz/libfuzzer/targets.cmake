# libFuzzer's program, one for all formats, and the program that writes the seeds. Included in the preset fuzz alone.
file(GLOB fuzz_formats CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/formats*.cpp ${CMAKE_SOURCE_DIR}/tests/fuzz/hdf5_edits.cpp)
add_library(fuzz_formats STATIC ${fuzz_formats} ${CMAKE_SOURCE_DIR}/tests/lsan_suppressions.cpp)
target_link_libraries(fuzz_formats PUBLIC ballast_sweep fmt::fmt nlohmann_json::nlohmann_json PkgConfig::libzstd hdf5::hdf5
  PkgConfig::libxxhash)

add_executable(fuzz_readers ${CMAKE_CURRENT_LIST_DIR}/readers.cpp)
target_link_options(fuzz_readers PRIVATE -fsanitize=fuzzer)
add_executable(fuzz_seeds ${CMAKE_CURRENT_LIST_DIR}/seeds.cpp)
foreach(program fuzz_readers fuzz_seeds)
  target_link_libraries(${program} PRIVATE fuzz_formats)
endforeach()
