target_link_libraries(ballast_kernels PRIVATE DNNL::dnnl OpenMP::OpenMP_CXX hwy::hwy fmt::fmt)
if(NOT BALLAST_SANITIZE)   # sanitizers: -O1 compiles these files four times as fast
  target_compile_options(ballast_kernels PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-O3>")
endif()

target_sources(ballast_kernels PRIVATE ${CMAKE_SOURCE_DIR}/kernels/cuda/architectures.cpp)

# The GPU backend: none, or the CUDA sources compiled as C++ for the SIMT executor. Only the dispatcher is told which, so that
# the builds of one machine share every other object (ccache).
function(ballast_gpu_backend definition)
  file(GLOB dispatchers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/dispatch/*.cpp)
  set_source_files_properties(${dispatchers} PROPERTIES COMPILE_DEFINITIONS ${definition})
endfunction()
if(BALLAST_SIMT)
  file(GLOB gpu_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  set_source_files_properties(${gpu_sources} PROPERTIES LANGUAGE CXX
    # GCC warns of rows that are loaded and read under one condition; nvcc does not.
    COMPILE_OPTIONS "-x;c++;-Wno-uninitialized;-Wno-maybe-uninitialized")
  target_sources(ballast_kernels PRIVATE ${gpu_sources} ${CMAKE_SOURCE_DIR}/kernels/cuda/runtime_simt.cpp
    ${CMAKE_SOURCE_DIR}/kernels/cuda/gemm_simt.cpp ${CMAKE_SOURCE_DIR}/kernels/cuda/communicator_simt.cpp
    ${CMAKE_SOURCE_DIR}/kernels/cuda/attention_choice.cpp)
  ballast_gpu_backend(BALLAST_SIMT)
  target_link_libraries(ballast_kernels PUBLIC ballast_simt)
elseif(BALLAST_CUDA)
  file(GLOB gpu_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
  target_sources(ballast_kernels PRIVATE ${gpu_sources} ${CMAKE_SOURCE_DIR}/kernels/cuda/runtime_cuda.cpp
    ${CMAKE_SOURCE_DIR}/kernels/cuda/gemm_cuda.cpp ${CMAKE_SOURCE_DIR}/kernels/cuda/attention_choice.cpp)
  ballast_gpu_backend(BALLAST_CUDA)
  list(JOIN CMAKE_CUDA_ARCHITECTURES "," architectures)
  set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cuda/runtime_cuda.cpp PROPERTIES
    COMPILE_DEFINITIONS "BALLAST_CUDA_ARCHITECTURES=\"${architectures}\"")
  if(CMAKE_CUDA_ARCHITECTURES MATCHES "90a")   # else a Hopper GPU runs kernels in which wgmma's are empty
    set_source_files_properties(${CMAKE_SOURCE_DIR}/kernels/cuda/attention_wgmma.cu PROPERTIES COMPILE_DEFINITIONS BALLAST_SM90A)
  endif()
  target_link_libraries(ballast_kernels PRIVATE CUDA::cudart_static CUDA::cublasLt)
  if(BALLAST_MPI)
    target_sources(ballast_kernels PRIVATE ${CMAKE_SOURCE_DIR}/kernels/cuda/communicator_nccl.cpp)
    target_link_libraries(ballast_kernels PRIVATE NCCL::nccl)
  else()
    target_sources(ballast_kernels PRIVATE ${CMAKE_SOURCE_DIR}/kernels/cuda/communicator_none.cpp)
  endif()
else()
  target_sources(ballast_kernels PRIVATE ${CMAKE_SOURCE_DIR}/kernels/cuda/runtime_none.cpp
    ${CMAKE_SOURCE_DIR}/kernels/cuda/communicator_none.cpp)
endif()
