# Every library Ballast builds on, found once; a missing one is a single message with the command that installs it.
# (Versions and pitfalls: docs/architecture.md, "Dependencies".)

# coinor-cbc is a program that `ballast moa optimise` runs where it is there; CMake does not look for it.
set(BALLAST_APT_PACKAGES
  libdnnl-dev ocl-icd-opencl-dev libhwy-dev libhdf5-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev
  libutf8proc-dev libpcre2-dev libzstd-dev libfmt-dev libspdlog-dev libxxhash-dev catch2 pkg-config
  coinor-cbc)
list(JOIN BALLAST_APT_PACKAGES " " BALLAST_APT_LINE)

function(ballast_missing what)
  message(FATAL_ERROR "\nBallast needs ${what}, which was not found.\n"
    "On Debian 12 or Ubuntu 24.04:  apt-get install ${BALLAST_APT_LINE}\n"
    "(./quickstart.sh and ./test.sh do this for you.)\n")
endfunction()

macro(ballast_find package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    ballast_missing("${package}")
  endif()
endmacro()

set(THREADS_PREFER_PTHREAD_FLAG ON)
ballast_find(Threads)
ballast_find(dnnl CONFIG)
ballast_find(OpenMP COMPONENTS CXX)   # only to tell oneDNN's runtime to stay on the calling thread
ballast_find(hwy CONFIG)
ballast_find(HDF5 COMPONENTS C)
ballast_find(CLI11 CONFIG)
ballast_find(tomlplusplus CONFIG)
ballast_find(nlohmann_json CONFIG)
ballast_find(fmt CONFIG)
ballast_find(spdlog CONFIG)

ballast_find(PkgConfig)
foreach(module libutf8proc libpcre2-8 libzstd libxxhash)
  pkg_check_modules(${module} QUIET IMPORTED_TARGET ${module})
  if(NOT ${module}_FOUND)
    ballast_missing("${module}")
  endif()
endforeach()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()
