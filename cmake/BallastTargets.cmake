# One library target a folder: ballast_library(model DEPENDS kernels) makes ballast_model from model/**/*.cpp.

add_library(ballast_flags INTERFACE)
target_compile_features(ballast_flags INTERFACE cxx_std_20)
target_compile_options(ballast_flags INTERFACE -Wall -Wextra -Wshadow -Wno-psabi
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>   # false alarms on std::string in GCC 12 (bug 105651)
  -ffp-contract=off   # a*b+c must round the same on every target; kernels ask for FMA by name
  -fno-math-errno)
target_include_directories(ballast_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_options(ballast_flags INTERFACE -march=x86-64-v3)   # wider units are chosen at run time
endif()
if(BALLAST_SANITIZE)
  target_compile_options(ballast_flags INTERFACE -fsanitize=${BALLAST_SANITIZE} -fno-omit-frame-pointer -g1 -O1
    $<$<STREQUAL:${BALLAST_SANITIZE},address,undefined>:-fno-sanitize-recover=undefined>)
  target_link_options(ballast_flags INTERFACE -fsanitize=${BALLAST_SANITIZE})
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
string(REPLACE "-DNDEBUG" "" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

function(ballast_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${name}/*.cpp)
  if(NOT sources)   # a room with headers only, or none yet
    add_library(ballast_${name} INTERFACE)
    return()
  endif()
  add_library(ballast_${name} STATIC ${sources})
  target_link_libraries(ballast_${name} PUBLIC ballast_flags)
  foreach(dependency IN LISTS ARG_DEPENDS)
    target_link_libraries(ballast_${name} PUBLIC ballast_${dependency})
  endforeach()
  if(EXISTS ${CMAKE_SOURCE_DIR}/${name}/libraries.cmake)
    include(${CMAKE_SOURCE_DIR}/${name}/libraries.cmake)   # third-party libraries of this room
  endif()
endfunction()

function(ballast_program name)
  cmake_parse_arguments(ARG "" "FOLDER" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  foreach(dependency IN LISTS ARG_DEPENDS)
    target_link_libraries(${name} PRIVATE ballast_${dependency})
  endforeach()
  include(${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/libraries.cmake)
endfunction()

# ballast_tests(kernels): test_kernels from tests/kernels/*.cpp; every TEST_CASE is a ctest test labelled "kernels".
function(ballast_tests name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  target_link_libraries(test_${name} PRIVATE ${ARG_LINK} ballast_test_support Catch2::Catch2WithMain)
  catch_discover_tests(test_${name} TEST_PREFIX "${name}: " PROPERTIES LABELS ${name} TIMEOUT 900)
endfunction()
