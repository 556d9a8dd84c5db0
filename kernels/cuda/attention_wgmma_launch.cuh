// The launches of attention with TMA and wgmma. attention_wgmma.cu and attention_wgmma_by_row.cu include this file and
// compile the kernels once each.
#pragma once

#include "kernels/cuda/attention_wgmma.h"
#include "kernels/cuda/attention_wgmma_d_key.cuh"
#include "kernels/cuda/attention_wgmma_d_query.cuh"
#include "kernels/cuda/attention_wgmma_forward.cuh"

namespace ballast::cuda {
namespace {

/// True when TMA can load boxes of rows of a [B,T,H,D] view.
bool is_for_tma(const Tensor& x) {
    const auto is_multiple = [&](int64_t elements) {
        return elements > 0 && elements < int64_t{1} << 39 && elements % 8 == 0;
    };
    if (x.numel() == 0 || reinterpret_cast<uintptr_t>(x.data) % 16 != 0) return false;
    for (size_t i = 0; i < 3; ++i)
        if (x.shape[i] > 1 && !is_multiple(x.stride[i])) return false;
    return true;
}

/// A tensor map with boxes of 64 dims x `rows` rows of a [B,T,H,D] view.
template <class T>
simt::TensorMap make_map(const Tensor& x, int rows) {
    const auto size = [&](size_t i) { return static_cast<uint64_t>(x.shape[i]); };
    // The stride of a dimension of size 1 is never used, and may be any value; replace it by a valid one.
    const auto stride = [&](size_t i) {
        return x.shape[i] > 1 ? static_cast<uint64_t>(x.stride[i]) * sizeof(T) : (size(3) * sizeof(T) + 15) / 16 * 16;
    };
    return simt::make_tensor_map(
        {.base = x.data,
         .element = std::is_same_v<T, __half> ? simt::TensorElement::fp16 : simt::TensorElement::bf16,
         .rank = 4,
         .size = {size(3), size(1), size(2), size(0)},
         .stride = {stride(1), stride(2), stride(0)},
         .box = {64, static_cast<uint32_t>(rows), 1, 1},
         .swizzle = simt::Swizzle::bytes_128});
}

const Tensor& sink_query_or_query(const AttentionInputs& in) { return in.sink_query.empty() ? in.q : in.sink_query; }

/// True when TMA supports every input and a tile holds the head dim.
bool takes(const AttentionInputs& in) {
    const int64_t dims = in.q.dim(3);
    return size_of(in.q.dtype) == 2 && dims > 32 && dims <= 128 && is_for_tma(in.q) && is_for_tma(in.k) &&
           is_for_tma(in.v) && is_for_tma(sink_query_or_query(in));
}

/// Calls f.template operator()<T, kDims>() for the inputs' dtype and the tile that holds their head dim.
template <class F>
void with_tile(const AttentionInputs& in, F&& f) {
    const auto with_type = [&]<class T>(T) {
        if (in.q.dim(3) <= 64) return f.template operator()<T, 64>();
        return f.template operator()<T, 128>();
    };
    if (in.q.dtype == Dtype::bf16) return with_type(__nv_bfloat16{});
    return with_type(__half{});
}

template <class T, int kDims, bool kByRow>
void forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
             const AttentionParams& params) {
    using Shape = WgmmaForward<T, kDims, kByRow>;
    const WgmmaForwardMaps maps{make_map<T>(in.q, kGroupRows), make_map<T>(sink_query_or_query(in), kGroupRows),
                                make_map<T>(in.k, Shape::kOther), make_map<T>(in.v, Shape::kOther)};
    launch(attention_wgmma_forward_kernel<T, kDims, kByRow>,
           attention_grid(ceil_div(in.q.dim(1), Shape::kOwn), in.q.dim(2), in.q.dim(0)), Shape::kThreads,
           Shape::memory().shared(), context.stream(), HeadRows<T>(out), data_of<float>(lse), maps,
           AttentionOperands<T>(in, params));
}

template <class T, int kDims, bool kByRow>
void d_query(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const AttentionSaved<T>& saved,
             const AttentionInputs& in, const AttentionOperands<T>& operands) {
    using Shape = WgmmaQueryGradient<T, kDims>;
    const WgmmaGradientMaps maps{make_map<T>(in.q, kGroupRows), make_map<T>(sink_query_or_query(in), kGroupRows),
                                 make_map<T>(d_out, kGroupRows), make_map<T>(in.k, Shape::kOther),
                                 make_map<T>(in.v, Shape::kOther)};
    launch(attention_wgmma_d_query_kernel<T, kDims, kByRow>,
           attention_grid(ceil_div(in.q.dim(1), Shape::kOwn), in.q.dim(2), in.q.dim(0)), Shape::kThreads,
           Shape::memory().shared(), context.stream(), HeadRows<T>(gradients.d_q), HeadRows<T>(gradients.d_sink_query),
           maps, saved, operands);
}

template <class T, int kDims, bool kByRow>
void d_key(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const AttentionSaved<T>& saved,
           const AttentionInputs& in, const AttentionOperands<T>& operands) {
    using Shape = WgmmaKeyGradient<T, kDims>;
    const WgmmaGradientMaps maps{make_map<T>(in.q, Shape::kOther), make_map<T>(sink_query_or_query(in), Shape::kOther),
                                 make_map<T>(d_out, Shape::kOther), make_map<T>(in.k, kGroupRows),
                                 make_map<T>(in.v, kGroupRows)};
    int64_t tiles = 0;
    for (const KeyPart& part : operands.rules.parts) tiles += ceil_div(part.rows, Shape::kOwn);
    launch(attention_wgmma_d_key_kernel<T, kDims, kByRow>, attention_grid(tiles, in.k.dim(2), in.k.dim(0)),
           Shape::kThreads, Shape::memory().shared(), context.stream(), HeadRows<T>(gradients.d_k),
           HeadRows<T>(gradients.d_v), maps, saved, operands);
}

}  // namespace

template <bool kByRow>
bool wgmma_attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                             const AttentionParams& params) {
    if (!takes(in)) return false;
    with_tile(in, [&]<class T, int kDims>() { forward<T, kDims, kByRow>(context, out, lse, in, params); });
    return true;
}

template <bool kByRow>
bool wgmma_attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out,
                              const Tensor& lse, const void* delta, const AttentionInputs& in,
                              const AttentionParams& params) {
    if (!takes(in) || !is_for_tma(d_out)) return false;
    with_tile(in, [&]<class T, int kDims>() {
        const AttentionOperands<T> operands(in, params);
        const AttentionSaved<T> saved{HeadRows<const T>(d_out), data_of<const float>(lse),
                                      static_cast<const float*>(delta)};
        d_query<T, kDims, kByRow>(context, gradients, d_out, saved, in, operands);
        d_key<T, kDims, kByRow>(context, gradients, d_out, saved, in, operands);
    });
    return true;
}

}  // namespace ballast::cuda
