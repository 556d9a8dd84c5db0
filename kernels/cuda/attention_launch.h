// Attention on mma.sync and, for wider types, on the plain multipliers. kByRow: the mask has positions or first keys
// per query (AttentionMask::is_by_row). A call without them runs kernels that were compiled without them.
#pragma once

#include "kernels/cuda/ops.h"

namespace ballast::cuda {

inline bool has_queries(const AttentionInputs& in) { return in.q.dim(0) > 0 && in.q.dim(1) > 0 && in.q.dim(2) > 0; }

/// Calls f.template operator()<kByRow>().
template <class F>
void with_mask(const AttentionMask& mask, F&& f) {
    if (mask.is_by_row()) return f.template operator()<true>();
    f.template operator()<false>();
}

/// Calls f.template operator()<kDims>() with the smallest tile shape of the plain multipliers that holds `dims`.
template <class F>
void with_plain_tile_dims(int64_t dims, F&& f) {
    if (dims <= 64) return f.template operator()<64>();
    if (dims <= 128) return f.template operator()<128>();
    f.template operator()<256>();
}

/// There must be queries.
template <bool kByRow>
void launch_attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                              const AttentionParams& params);
/// `delta` as computed by attention_delta_kernel; d_sink_logit is not written.
template <bool kByRow>
void launch_attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out,
                               const Tensor& lse, const void* delta, const AttentionInputs& in,
                               const AttentionParams& params);

}  // namespace ballast::cuda
