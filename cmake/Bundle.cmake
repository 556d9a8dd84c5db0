# What scripts/gpu_bundle.sh carries to a machine that only has a GPU: `cmake --install BUILD --component bundle`. Libraries that
# travel along lie in ../lib; the old kind of run path, because only that one also counts for what libraries need themselves.
function(ballast_bundled)
  foreach(target ${ARGN})
    if(TARGET ${target})
      install(TARGETS ${target} RUNTIME DESTINATION bin COMPONENT bundle EXCLUDE_FROM_ALL)
      set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
      target_link_options(${target} PRIVATE LINKER:--disable-new-dtags)
      add_dependencies(bundle ${target})
    endif()
  endforeach()
endfunction()
if(BALLAST_CUDA OR BALLAST_SIMT)
  add_custom_target(bundle)
  ballast_bundled(ballast simt_conformance test_kernels test_model test_infer test_train test_eval
    bench_ops bench_train_step bench_cudnn_attention)
endif()
