# One library target a folder: ballast_library(model DEPENDS kernels) makes ballast_model from model/**/*.cpp.

add_library(ballast_flags INTERFACE)
target_compile_features(ballast_flags INTERFACE cxx_std_20)
# For C++; nvcc has its own (cmake/Cuda.cmake).
function(ballast_cxx_options)
  target_compile_options(ballast_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${ARGN}>")
endfunction()
ballast_cxx_options(-Wall -Wextra -Wshadow -Wno-psabi
  -ffp-contract=off   # a*b+c must round the same on every target; kernels ask for FMA by name
  -fno-math-errno
  -Wno-missing-field-initializers)   # designated initialisers leave members at their defaults on purpose
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  ballast_cxx_options(-Wno-restrict)   # false alarms on std::string in GCC 12 (bug 105651)
endif()
target_include_directories(ballast_flags INTERFACE ${CMAKE_SOURCE_DIR})
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  ballast_cxx_options(-march=x86-64-v3)   # wider units are chosen at run time
endif()
if(BALLAST_BASELINE_SIMD)
  ballast_cxx_options(-DBALLAST_BASELINE_SIMD)
endif()
if(BALLAST_SANITIZE)
  # The program and the tests drive what is checked: without checks of their own, and optimised less, they compile in half
  # the time.
  set(level "$<TARGET_PROPERTY:BALLAST_DRIVER_OPTIMISATION>")
  set(driver "$<NOT:$<STREQUAL:${level},>>")
  ballast_cxx_options(-fsanitize=${BALLAST_SANITIZE} -fno-omit-frame-pointer -g1 "-O$<IF:${driver},${level},1>")
  if(BALLAST_SANITIZE MATCHES "undefined")
    # Not: whether each pointer is null or of its type. That doubles the time to compile, and a null pointer faults anyway.
    ballast_cxx_options(-fno-sanitize-recover=undefined -fno-sanitize=null,vptr,object-size,pointer-overflow
      "$<${driver}:-fno-sanitize=undefined>")
  endif()
  target_link_options(ballast_flags INTERFACE -fsanitize=${BALLAST_SANITIZE})
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
string(REPLACE "-DNDEBUG" "" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

# With BALLAST_UNITY sixteen files of a room, or of its tests, are one translation unit, which halves the time to compile what all
# files include. So names in anonymous namespaces are unique in a room; other builds compile each file on its own, which shows
# what one forgot to include.
function(ballast_unity target)
  if(BALLAST_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")   # takes such files for headers, and loses sight of the variants of so large a file
      target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage;-Wno-maybe-uninitialized>")
    endif()
  endif()
endfunction()

function(ballast_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${name}/*.cpp)
  list(FILTER sources EXCLUDE REGEX "/kernels/(simt|cuda)/")   # see kernels/libraries.cmake
  if(BALLAST_MPI)
    list(FILTER sources EXCLUDE REGEX "/base/communicator_none[.]cpp$")
  else()
    list(FILTER sources EXCLUDE REGEX "/base/communicator_mpi[.]cpp$")
  endif()
  if(NOT sources)   # a room with headers only, or none yet
    add_library(ballast_${name} INTERFACE)
    return()
  endif()
  add_library(ballast_${name} STATIC ${sources})
  target_link_libraries(ballast_${name} PUBLIC ballast_flags)
  if(NOT name STREQUAL "kernels")   # its files are compiled for several targets each
    ballast_unity(ballast_${name})
  endif()
  foreach(dependency IN LISTS ARG_DEPENDS)
    target_link_libraries(ballast_${name} PUBLIC ballast_${dependency})
  endforeach()
  if(EXISTS ${CMAKE_SOURCE_DIR}/${name}/libraries.cmake)
    include(${CMAKE_SOURCE_DIR}/${name}/libraries.cmake)   # third-party libraries of this room
  endif()
endfunction()

# The executor that plays a GPU. Never compiled with a sanitizer: it tells the sanitizers' runtimes, where the program has
# them, what its fibers are (kernels/simt/runtime/sanitizers.h).
function(ballast_simt_library)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/simt/runtime/*.cpp)
  add_library(ballast_simt STATIC ${sources})
  target_compile_features(ballast_simt PUBLIC cxx_std_20)
  target_compile_options(ballast_simt PRIVATE -Wall -Wextra -Wshadow -O2 -g1 -ffp-contract=off)
  target_include_directories(ballast_simt PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(ballast_simt PUBLIC Threads::Threads)
endfunction()

function(ballast_program name)
  cmake_parse_arguments(ARG "" "FOLDER" "DEPENDS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${name} ${sources})
  set_property(TARGET ${name} PROPERTY BALLAST_DRIVER_OPTIMISATION 0)
  if(NOT BALLAST_SANITIZE)   # it hands work to the rooms; two thirds of what its options take to compile at -O2
    target_compile_options(${name} PRIVATE -O1)
  endif()
  ballast_unity(${name})
  foreach(dependency IN LISTS ARG_DEPENDS)
    target_link_libraries(${name} PRIVATE ballast_${dependency})
  endforeach()
  include(${CMAKE_SOURCE_DIR}/${ARG_FOLDER}/libraries.cmake)
endfunction()

# The tests of test_<name> once more, on a device: "kernels on simt: …", labelled "kernels" and "simt". SPEC is Catch2's.
function(ballast_tests_on device name)
  cmake_parse_arguments(ARG "" "SPEC;TITLE" "ENVIRONMENT" ${ARGN})
  string(REPLACE " " "_" list "${name}_on_${ARG_TITLE}")
  catch_discover_tests(test_${name} TEST_SPEC "${ARG_SPEC}" ${no_tests} TEST_PREFIX "${name} on ${ARG_TITLE}: " TEST_LIST ${list})
  # Read by ctest after the list: properties with two values do not get through catch_discover_tests. Fake stacks for a
  # thousand fibers would make AddressSanitizer five times slower.
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/${list}.cmake
    "foreach(test IN LISTS ${list})
       set_tests_properties(\"\${test}\" PROPERTIES LABELS \"${name};${device}\" TIMEOUT 900
         ENVIRONMENT \"BALLAST_TEST_DEVICE=${device};${ARG_ENVIRONMENT}\"
         ENVIRONMENT_MODIFICATION ASAN_OPTIONS=string_append::detect_stack_use_after_return=0)
     endforeach()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${CMAKE_CURRENT_BINARY_DIR}/${list}.cmake)
endfunction()

# ballast_tests(kernels): test_kernels from tests/kernels/*.cpp; every TEST_CASE is a ctest test labelled "kernels".
# ON_DEVICES: in a build with a GPU backend the same tests run there too. What is tagged [cpu] stays on the CPU; [not_cuda]
# needs f64 kernels or our fixed-order GEMM, which CUDA does not have, and runs "on simt". What will run on a GPU runs "on
# strict simt", as near to one as the executor comes; sanitizers do not go with that, so under them all is "on simt".
# SEPARATE: several files have something else under one name, so that they are never one translation unit.
function(ballast_tests name)
  cmake_parse_arguments(ARG "ON_DEVICES;SEPARATE" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${name}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(test_${name} ${sources})
  set(level 0)
  if(ARG_ON_DEVICES)   # tests against oracles, which are slow enough
    set(level 1)
  endif()
  set_property(TARGET test_${name} PROPERTY BALLAST_DRIVER_OPTIMISATION ${level})
  if(NOT BALLAST_SANITIZE)   # half of what a test takes to compile at -O2
    target_compile_options(test_${name} PRIVATE -O${level})
  endif()
  if(NOT ARG_SEPARATE)
    ballast_unity(test_${name})
  endif()
  target_link_libraries(test_${name} PRIVATE ${ARG_LINK} ballast_test_support Catch2::Catch2WithMain)
  if(Catch2_VERSION VERSION_LESS 3)   # a name that matches nothing must fail, as it does in version 3
    set(no_tests EXTRA_ARGS -w NoTests)
  endif()
  catch_discover_tests(test_${name} ${no_tests} TEST_PREFIX "${name}: " PROPERTIES LABELS ${name} TIMEOUT 900)
  if(NOT ARG_ON_DEVICES)
    return()
  endif()
  if(BALLAST_SIMT AND BALLAST_SANITIZE)
    ballast_tests_on(simt ${name} TITLE "simt" SPEC "~[cpu]")
  elseif(BALLAST_SIMT)
    ballast_tests_on(simt ${name} TITLE "strict simt" SPEC "~[cpu]~[not_cuda]" ENVIRONMENT BALLAST_SIMT_STRICT=1)
    foreach(source IN LISTS sources)
      file(STRINGS ${source} beyond_cuda REGEX "\\[not_cuda\\]" LIMIT_COUNT 1)
      if(beyond_cuda)
        ballast_tests_on(simt ${name} TITLE "simt" SPEC "[not_cuda]~[cpu]")
        break()
      endif()
    endforeach()
  elseif(BALLAST_CUDA)
    ballast_tests_on(cuda ${name} TITLE "cuda" SPEC "~[cpu]~[not_cuda]")
  endif()
endfunction()
