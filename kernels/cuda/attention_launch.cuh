// The launches of attention on mma.sync and on the plain multipliers. attention_launch.cu and
// attention_launch_by_row.cu include this file and compile the kernels once each.
#pragma once

#include "kernels/cuda/attention_fma.cuh"
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/attention_mma_forward.cuh"

namespace ballast::cuda {
namespace {

template <class T>
inline constexpr bool kOnTensorCores = sizeof(T) == 2;

/// Calls f.template operator()<kDims>() with the smallest tile shape that holds `dims`.
template <class T, class F>
void with_tile_dims(int64_t dims, F&& f) {
    if constexpr (kOnTensorCores<T>)
        if (dims <= 32) return f.template operator()<32>();
    if (dims <= 64) return f.template operator()<64>();
    if (dims <= 128) return f.template operator()<128>();
    return f.template operator()<256>();
}

/// The kernels of one dtype and tile shape: their tiles of own rows, threads and shared memory.
template <class T, int kDims, bool kByRow>
struct PlainKernels {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    static_assert(sizeof(A) > 4 ||  // f64 is for the executor only
                  (attention_forward_memory<A, kDims>(kDims).shared().bytes <= kSmallestMemory &&
                   attention_backward_memory<A, kDims>(kDims).shared().bytes <= kSmallestMemory));
    static auto forward() { return &attention_forward_kernel<T, kDims, kByRow>; }
    static auto d_query() { return &attention_d_query_kernel<T, kDims, kByRow>; }
    static auto d_key() { return &attention_d_key_kernel<T, kDims, kByRow>; }
    static constexpr int forward_own = Tile::kOwn, d_query_own = Tile::kOwn, d_key_own = Tile::kOwn;
    static constexpr int forward_threads = kAttentionThreads, d_query_threads = kAttentionThreads,
                         d_key_threads = kAttentionThreads;
    static simt::SharedBytes forward_memory(int dims) { return attention_forward_memory<A, kDims>(dims).shared(); }
    static simt::SharedBytes d_query_memory(int dims) { return attention_backward_memory<A, kDims>(dims).shared(); }
    static simt::SharedBytes d_key_memory(int dims) { return attention_backward_memory<A, kDims>(dims).shared(); }
};

template <class T, int kDims, bool kByRow>
struct TensorCoreKernels {
    using Forward = MmaForward<T, kDims>;
    using Query = MmaQueryGradient<T, kDims>;
    using Key = MmaKeyGradient<T, kDims>;
    static_assert(Forward::memory().shared().bytes <= kSmallestMemory &&
                  Query::memory().shared().bytes <= kSmallestMemory && Key::memory().shared().bytes <= kSmallestMemory);
    static auto forward() { return &attention_mma_forward_kernel<T, kDims, kByRow>; }
    static auto d_query() { return &attention_mma_d_query_kernel<T, kDims, kByRow>; }
    static auto d_key() { return &attention_mma_d_key_kernel<T, kDims, kByRow>; }
    static constexpr int forward_own = Forward::kOwn, d_query_own = Query::kOwn, d_key_own = Key::kOwn;
    static constexpr int forward_threads = Forward::kThreads, d_query_threads = Query::kThreads,
                         d_key_threads = Key::kThreads;
    static simt::SharedBytes forward_memory(int) { return Forward::memory().shared(); }
    static simt::SharedBytes d_query_memory(int) { return Query::memory().shared(); }
    static simt::SharedBytes d_key_memory(int) { return Key::memory().shared(); }
};

/// Not std::conditional_t of the two: only the used one may be instantiated.
template <class T, int kDims, bool kByRow>
struct KernelsOf : PlainKernels<T, kDims, kByRow> {};
template <class T, int kDims, bool kByRow>
requires kOnTensorCores<T>
struct KernelsOf<T, kDims, kByRow> : TensorCoreKernels<T, kDims, kByRow> {
};

template <class T, int kDims, bool kByRow>
void forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
             const AttentionParams& params) {
    using Kernels = KernelsOf<T, kDims, kByRow>;
    const AttentionOperands<T> operands(in, params);
    launch(Kernels::forward(), attention_grid(ceil_div(in.q.dim(1), Kernels::forward_own), in.q.dim(2), in.q.dim(0)),
           Kernels::forward_threads, Kernels::forward_memory(operands.dims), context.stream(), HeadRows<T>(out),
           data_of<Accumulator<T>>(lse), operands);
}

template <class T, int kDims, bool kByRow>
void backward(Context& context, const AttentionGradients& gradients, const AttentionSaved<T>& saved,
              const AttentionInputs& in, const AttentionParams& params) {
    using Kernels = KernelsOf<T, kDims, kByRow>;
    const AttentionOperands<T> operands(in, params);
    if (has_queries(in))
        launch(Kernels::d_query(),
               attention_grid(ceil_div(in.q.dim(1), Kernels::d_query_own), in.q.dim(2), in.q.dim(0)),
               Kernels::d_query_threads, Kernels::d_query_memory(operands.dims), context.stream(),
               HeadRows<T>(gradients.d_q), HeadRows<T>(gradients.d_sink_query), saved, operands);
    int64_t key_tiles = 0;
    for (const KeyPart& part : operands.rules.parts) key_tiles += ceil_div(part.rows, Kernels::d_key_own);
    if (key_tiles > 0 && in.k.dim(0) > 0)
        launch(Kernels::d_key(), attention_grid(key_tiles, in.k.dim(2), in.k.dim(0)), Kernels::d_key_threads,
               Kernels::d_key_memory(operands.dims), context.stream(), HeadRows<T>(gradients.d_k),
               HeadRows<T>(gradients.d_v), saved, operands);
}

}  // namespace

template <bool kByRow>
void launch_attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                              const AttentionParams& params) {
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        with_tile_dims<T>(in.q.dim(3), [&]<int kDims>() { forward<T, kDims, kByRow>(context, out, lse, in, params); });
    });
}

template <bool kByRow>
void launch_attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out,
                               const Tensor& lse, const void* delta, const AttentionInputs& in,
                               const AttentionParams& params) {
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const AttentionSaved<T> saved{HeadRows<const T>(d_out), data_of<const A>(lse), static_cast<const A*>(delta)};
        with_tile_dims<T>(in.q.dim(3),
                          [&]<int kDims>() { backward<T, kDims, kByRow>(context, gradients, saved, in, params); });
    });
}

}  // namespace ballast::cuda
