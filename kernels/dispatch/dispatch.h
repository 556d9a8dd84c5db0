// Calls the op's implementation for the context's device, after checking shapes and dtypes once for all devices. There
// is one file per family of ops; this header is shared by them.
#pragma once

#include <fmt/format.h>

#include <source_location>

#include "kernels/cpu/ops.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

namespace ballast::ops {

#if defined(BALLAST_CUDA) || defined(BALLAST_SIMT)
inline constexpr bool kHasGpu = true;
#else
inline constexpr bool kHasGpu = false;  // cuda:: is declared and nowhere defined
#endif

inline void expect_reachable(const Tensor& tensor) {
    if (!tensor.empty() && tensor.numel() > 0)
        require(cuda::is_reachable(tensor.data), "a GPU op on the host's memory");
}
inline void expect_reachable(const AttentionInputs& in) {
    for (const Tensor* t : {&in.q, &in.k, &in.v, &in.sink_query}) expect_reachable(*t);
}
inline void expect_reachable(const AttentionParams& p) {
    for (const Tensor* t : {&p.sink_logit_H, &p.alibi_slope_H, &p.mask.span_H, &p.mask.query_position_BT,
                            &p.mask.first_key_BT})
        expect_reachable(*t);
}
inline void expect_reachable(const AttentionGradients& d) {
    for (const Tensor* t : {&d.d_q, &d.d_k, &d.d_v, &d.d_sink_query, &d.d_sink_logit_H}) expect_reachable(*t);
}
inline void expect_reachable(std::span<const NormOutput> norms) {
    for (const NormOutput& norm : norms)
        for (const Tensor* t : {&norm.out_NC, &norm.weight_C, &norm.bias_C}) expect_reachable(*t);
}
inline void expect_reachable(std::span<const NormGradient> norms) {
    for (const NormGradient& norm : norms)
        for (const Tensor* t : {&norm.d_out_NC, &norm.weight_C, &norm.d_weight_C, &norm.d_bias_C}) expect_reachable(*t);
}
inline void expect_reachable(const PagedCache& cache) {
    for (const Tensor* t : {&cache.keys_PRD, &cache.values_PRD, &cache.positions_PR}) expect_reachable(*t);
}
inline void expect_reachable(const CacheRows& rows) {
    for (const Tensor* t : {&rows.table_BGW, &rows.length_BG}) expect_reachable(*t);
}
inline void expect_reachable(const CachedAttentionWork& work) {
    for (const Tensor* t : {&work.items_N3, &work.first_BG1}) expect_reachable(*t);
}
inline void expect_reachable(const Influence& influence) {
    for (const Tensor* t : {&influence.absolute_BHIJ, &influence.signed_sum_BHIJ}) expect_reachable(*t);
}
inline void expect_reachable(const LinearWeight& w) {
    for (const Tensor* t : {&w.weight, &w.bias, &w.scale}) expect_reachable(*t);
}
inline void expect_reachable(const Positions& positions) { expect_reachable(positions.rows); }
template <class NoTensor>
void expect_reachable(const NoTensor&) {}

/// Calls the implementation for the context's device.
template <auto cpu_function, auto gpu_function, class Context, class... Arguments>
auto run(Context& context, const Arguments&... arguments) {
    if constexpr (kHasGpu) {
        if (context.device() != Device::cpu) {
            (expect_reachable(arguments), ...);
            return gpu_function(context, arguments...);
        }
    }
    return cpu_function(context, arguments...);
}

/// `tensor` must have this dtype and shape.
inline void expect(const Tensor& tensor, const char* name, Dtype dtype, std::initializer_list<int64_t> shape,
                   std::source_location where = std::source_location::current()) {
    bool ok = !tensor.empty() && tensor.dtype == dtype && tensor.rank == static_cast<int>(shape.size());
    for (int i = 0; ok && i < tensor.rank; ++i) ok = tensor.dim(i) == shape.begin()[i];
    if (ok) return;
    std::string dims;
    for (int64_t extent : shape) dims += fmt::format("{}{}", dims.empty() ? "" : ", ", extent);
    require(false,
            fmt::format("{} is {} but should be {}[{}]", name, tensor.empty() ? "absent" : tensor.describe(),
                        name_of(dtype), dims),
            where);
}

/// … and be contiguous.
inline void expect_dense(const Tensor& tensor, const char* name, Dtype dtype, std::initializer_list<int64_t> shape,
                         std::source_location where = std::source_location::current()) {
    expect(tensor, name, dtype, shape, where);
    if (!tensor.is_contiguous()) require(false, fmt::format("{} is not contiguous", name), where);
}

/// … and have a contiguous last dimension.
inline void expect_rows(const Tensor& tensor, const char* name, Dtype dtype, std::initializer_list<int64_t> shape,
                        std::source_location where = std::source_location::current()) {
    expect(tensor, name, dtype, shape, where);
    const bool ok = tensor.stride[static_cast<size_t>(tensor.rank - 1)] == 1 || tensor.dim(-1) == 1;
    if (!ok) require(false, fmt::format("{} has a strided last dimension", name), where);
}

inline void expect_compute(Dtype dtype) {
    require(dtype == Dtype::f32 || is_narrow(dtype) || dtype == Dtype::f64, "not a compute dtype");
}

inline constexpr int64_t kMaxHeadDim = 256;  // for attention

/// Checks the per-head tensors of attention's parameters.
inline void check_heads(const AttentionParams& params, Dtype acc, int64_t heads) {
    if (has_learned_sink_logit(params.normaliser)) expect_dense(params.sink_logit_H, "sink_logit", acc, {heads});
    if (!params.alibi_slope_H.empty()) expect_dense(params.alibi_slope_H, "alibi_slope", acc, {heads});
    if (!params.mask.span_H.empty()) expect_dense(params.mask.span_H, "span", Dtype::i32, {heads});
}

/// Checks a weight that is multiplied with x operands: x or narrower, with scales for the rows of an 8-bit weight.
inline void expect_readable_weight(const Tensor& weight, const Tensor& scale, Dtype x, int64_t O, int64_t I) {
    const Dtype stored = weight.dtype;
    const bool narrower = (stored == Dtype::i8 && x != Dtype::f64) || (stored == Dtype::bf16 && x == Dtype::f32);
    expect_dense(weight, "weight", narrower ? stored : x, {O, I});
    require(scale.empty() == (stored != Dtype::i8), "scales come exactly with weights of 8 bits");
    if (!scale.empty()) expect_dense(scale, "scale", Dtype::f32, {O});
}

inline void expect_scalars(const StepScalarsTensor& scalars) {
    expect_dense(scalars, "scalars", Dtype::u8, {static_cast<int64_t>(sizeof(StepScalars))});
}

}  // namespace ballast::ops
