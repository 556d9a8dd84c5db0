# The build's guard: notices a spill in an attention kernel for heads of 64 or 128 and products that wait for each other, names them,
# and lets others be.
function(compile source expected)
  execute_process(COMMAND ${LAUNCHER} ${NVCC} -std=c++20 -I${ROOT} ${ARGN} -c ${ROOT}/tests/cuda/${source} -o ${WORK}/${source}.o
    RESULT_VARIABLE code ERROR_VARIABLE text)
  if(expected STREQUAL "")
    if(NOT code EQUAL 0)
      message(FATAL_ERROR "${source} ${ARGN}: exit code ${code}\n${text}")
    endif()
  elseif(code EQUAL 0 OR NOT text MATCHES "${expected}")
    message(FATAL_ERROR "${source} ${ARGN}: exit code ${code}, and no \"${expected}\" in\n${text}")
  endif()
endfunction()
set(sm_80 --generate-code=arch=compute_80,code=[sm_80])
set(sm_90a --generate-code=arch=compute_90a,code=[sm_90a])
compile(attention_spill.cu "attention_spilling_kernel<float, .*64> for sm_80: [1-9][0-9]* bytes stored, [1-9][0-9]* loaded"
  -DHEAD=64 ${sm_80} ${sm_90a})
compile(attention_spill.cu "attention_spilling_kernel<float, .*128> for sm_90a: [1-9]" -DHEAD=128 ${sm_80} ${sm_90a})
compile(attention_spill.cu "" -DHEAD=96 ${sm_80} ${sm_90a})
compile(attention_serialised.cu "C75[0-9]+.*attention_serialised_kernel" -DTOUCHED ${sm_90a})
compile(attention_serialised.cu "" ${sm_90a})
