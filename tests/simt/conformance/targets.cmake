# simt_conformance, by g++ for the executor or by nvcc for a GPU (conformance.h). Hopper's part is for sm_90a alone.
set(sources simt/conformance/types.cu simt/conformance/warps.cu simt/conformance/hopper.cu)
add_executable(simt_conformance simt/conformance/main.cpp simt/conformance/records.cpp simt/conformance/types.cu
  simt/conformance/warps.cu)
add_library(simt_conformance_hopper OBJECT simt/conformance/hopper.cu)
foreach(target simt_conformance simt_conformance_hopper)
  target_link_libraries(${target} PRIVATE ballast_kernels)
endforeach()
target_link_libraries(simt_conformance PRIVATE simt_conformance_hopper)
if(BALLAST_CUDA)
  set_target_properties(simt_conformance_hopper PROPERTIES CUDA_ARCHITECTURES 90a-real)
else()
  set_source_files_properties(${sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")
  add_test(NAME "conformance: runs on the executor, agrees with itself, and a flipped bit is noticed"
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:simt_conformance> -DWORK=${CMAKE_CURRENT_BINARY_DIR}/conformance
      -P ${CMAKE_CURRENT_SOURCE_DIR}/simt/conformance/check.cmake)
  set_tests_properties("conformance: runs on the executor, agrees with itself, and a flipped bit is noticed" PROPERTIES
    LABELS "simt;conformance" TIMEOUT 900 ENVIRONMENT_MODIFICATION ASAN_OPTIONS=string_append::detect_stack_use_after_return=0)
endif()
