target_link_libraries(ballast_kernels PRIVATE DNNL::dnnl OpenMP::OpenMP_CXX hwy::hwy fmt::fmt)
target_compile_options(ballast_kernels PRIVATE -O3)
