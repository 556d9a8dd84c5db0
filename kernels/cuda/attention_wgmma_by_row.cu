#include "kernels/cuda/attention_wgmma_launch.cuh"

namespace ballast::cuda {

template bool wgmma_attention_forward<true>(Context&, const Tensor&, const Tensor&, const AttentionInputs&,
                                            const AttentionParams&);
template bool wgmma_attention_backward<true>(Context&, const AttentionGradients&, const Tensor&, const Tensor&,
                                             const void*, const AttentionInputs&, const AttentionParams&);

}  // namespace ballast::cuda
