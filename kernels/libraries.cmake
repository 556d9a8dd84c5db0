target_link_libraries(ballast_kernels PRIVATE DNNL::dnnl OpenMP::OpenMP_CXX hwy::hwy fmt::fmt)
if(NOT BALLAST_SANITIZE)   # sanitizers: -O1 compiles these files four times as fast
  target_compile_options(ballast_kernels PRIVATE -O3)
endif()
