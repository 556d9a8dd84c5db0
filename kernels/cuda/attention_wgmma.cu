#include "kernels/cuda/attention_wgmma_launch.cuh"

namespace ballast::cuda {

bool has_wgmma_attention() {
#if BALLAST_SIMT_HOST
    return true;
#elif defined(BALLAST_SM90A)
    int device = 0, major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major == 9;
#else
    return false;
#endif
}

template bool wgmma_attention_forward<false>(Context&, const Tensor&, const Tensor&, const AttentionInputs&,
                                             const AttentionParams&);
template bool wgmma_attention_backward<false>(Context&, const AttentionGradients&, const Tensor&, const Tensor&,
                                              const void*, const AttentionInputs&, const AttentionParams&);

}  // namespace ballast::cuda
