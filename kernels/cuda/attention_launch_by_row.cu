#include "kernels/cuda/attention_launch.cuh"

namespace ballast::cuda {

template void launch_attention_forward<true>(Context&, const Tensor&, const Tensor&, const AttentionInputs&,
                                             const AttentionParams&);
template void launch_attention_backward<true>(Context&, const AttentionGradients&, const Tensor&, const Tensor&,
                                              const void*, const AttentionInputs&, const AttentionParams&);

}  // namespace ballast::cuda
