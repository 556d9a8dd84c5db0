// The host side of attention with TMA and wgmma: which calls it supports, and the launches.
#pragma once

#include "kernels/cuda/ops.h"

namespace ballast::cuda {

/// True when this build has the kernels and the current device can run them (sm_90a; the executor can).
bool has_wgmma_attention();

/// Both return false, and do nothing, in three cases: TMA does not support the views (bases or strides that are not
/// multiples of 16 bytes); no tile holds the head dim (tiles of 64 and 128 hold head dims 33 to 128); there are no
/// queries or no keys. kByRow: as in attention_launch.h.
template <bool kByRow>
bool wgmma_attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                             const AttentionParams& params);
/// `delta` as computed by attention_delta_kernel; d_sink_logit is not written.
template <bool kByRow>
bool wgmma_attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out,
                              const Tensor& lse, const void* delta, const AttentionInputs& in,
                              const AttentionParams& params);

}  // namespace ballast::cuda
