#include "kernels/cuda/attention_launch.cuh"

namespace ballast::cuda {

template void launch_attention_forward<false>(Context&, const Tensor&, const Tensor&, const AttentionInputs&,
                                              const AttentionParams&);
template void launch_attention_backward<false>(Context&, const AttentionGradients&, const Tensor&, const Tensor&,
                                               const void*, const AttentionInputs&, const AttentionParams&);

}  // namespace ballast::cuda
