# Runs simt_conformance twice, under two orders of threads, compares, and compares with files that were tampered with.
cmake_policy(SET CMP0007 NEW)
file(MAKE_DIRECTORY ${WORK})
foreach(order forward reverse)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env BALLAST_SIMT_ORDER=${order} ${PROGRAM} ${WORK}/${order}.txt
    COMMAND_ERROR_IS_FATAL ANY)
endforeach()

function(expect result a b)
  execute_process(COMMAND ${PROGRAM} --compare ${a} ${b} RESULT_VARIABLE code OUTPUT_VARIABLE text)
  if(NOT code EQUAL result)
    message(FATAL_ERROR "comparing ${a} with ${b}: exit code ${code}, not ${result}\n${text}")
  endif()
endfunction()
expect(0 ${WORK}/forward.txt ${WORK}/reverse.txt)

file(READ ${WORK}/forward.txt whole)
# One bit of a record to compare exactly, of one with a bound, and a record left out.
foreach(name "cp.async in two stages, with zero fill" "mma.sync m16n8k16 bf16")
  string(FIND "${whole}" "${name}\t" begin)
  string(SUBSTRING "${whole}" 0 ${begin} before)
  string(SUBSTRING "${whole}" ${begin} -1 after)
  string(REGEX REPLACE "^([^\n]*\n[0-9a-f]+ )([0-9a-f])[0-9a-f]" "\\17f" changed "${after}")
  if(changed STREQUAL after)
    message(FATAL_ERROR "found no value of ${name} to change")
  endif()
  file(WRITE ${WORK}/changed.txt "${before}${changed}")
  expect(3 ${WORK}/forward.txt ${WORK}/changed.txt)
endforeach()
string(REGEX REPLACE "named barriers[^\n]*\n([0-9a-f ]+\n)+" "" shorter "${whole}")
file(WRITE ${WORK}/shorter.txt "${shorter}")
expect(3 ${WORK}/forward.txt ${WORK}/shorter.txt)
expect(3 ${WORK}/shorter.txt ${WORK}/forward.txt)

# What one side skipped does not count.
execute_process(COMMAND ${PROGRAM} --small ${WORK}/small.txt COMMAND_ERROR_IS_FATAL ANY)
expect(0 ${WORK}/forward.txt ${WORK}/small.txt)
