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
