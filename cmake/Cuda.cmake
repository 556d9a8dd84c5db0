# The CUDA toolkit, found only for builds that ask for it. One binary serves Ampere and Ada (sm_80), Hopper (sm_90a), and
# Blackwell (sm_100, sm_120), with PTX for what comes after.
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 100-real 120)
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(FATAL_ERROR "\nThe CUDA backend needs nvcc (CUDA toolkit 13), which was not found.\n"
    "Put it on the PATH (often /usr/local/cuda/bin), set CUDACXX, or build the cpu preset.\n")
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
# As a flag: CMake 3.25 does not know what CUDA 13's nvcc calls its dialects.
string(APPEND CMAKE_CUDA_FLAGS " -std=c++20")
set(CMAKE_CUDA_COMPILER_LAUNCHER ${CMAKE_SOURCE_DIR}/scripts/nvcc_without_spills.sh)

# Several ranks, one on each GPU, talk through NCCL; MPI starts them.
if(BALLAST_MPI)
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
  find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
  if(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
    message(FATAL_ERROR "\nBALLAST_CUDA with BALLAST_MPI needs NCCL, which was not found: apt-get install libnccl-dev\n"
      "(from NVIDIA's repository), or set NCCL_INCLUDE_DIR and NCCL_LIBRARY.\n")
  endif()
  add_library(NCCL::nccl UNKNOWN IMPORTED)
  set_target_properties(NCCL::nccl PROPERTIES
    IMPORTED_LOCATION ${NCCL_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${NCCL_INCLUDE_DIR})
endif()
