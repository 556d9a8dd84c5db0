// Attention with TMA and wgmma, the host's side: what it can take, and how it starts.
#pragma once

#include "kernels/cuda/ops.h"

namespace ballast::cuda {

/// Whether this build has the kernels and the current device runs them (sm_90a; the executor does).
bool has_wgmma_attention();

/// Both: false, with nothing done, where the views are not TMA's (bases or strides that are no multiples of 16 bytes)
/// or no tile holds the head dim: 33 to 128 are held by tiles of 64 and 128, or where there are no queries or no keys.
/// kByRow: as in attention_launch.h.
template <bool kByRow>
bool wgmma_attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                             const AttentionParams& params);
/// `delta` as attention_delta_kernel leaves it; d_sink_logit is not touched.
template <bool kByRow>
bool wgmma_attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out,
                              const Tensor& lse, const void* delta, const AttentionInputs& in,
                              const AttentionParams& params);

}  // namespace ballast::cuda
