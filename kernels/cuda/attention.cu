// Attention, the host's side: which kernels run on which dtypes and shapes. 16-bit types go to the tensor cores
// (attention_mma_*.cuh, or attention_wgmma_*.cuh: attention_choice.h), wider ones to the plain multipliers
// (attention_fma.cuh).

#include "kernels/cuda/attention_choice.h"
#include "kernels/cuda/attention_fma.cuh"
#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/attention_mma_forward.cuh"
#include "kernels/cuda/attention_wgmma.h"

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

bool wants_wgmma(const Context& context) {
    switch (context.attention_kernels()) {
        case AttentionKernels::mma: return false;
        case AttentionKernels::wgmma: return has_wgmma_attention();
        default: return prefers_wgmma(context.device());
    }
}

bool has_queries(const AttentionInputs& in) { return in.q.dim(0) > 0 && in.q.dim(1) > 0 && in.q.dim(2) > 0; }

inline constexpr size_t kSmallestMemory = 99 << 10;  // shared memory that a block may have on sm_86, 89 and 120

/// The kernels of one dtype and tile shape: their tiles of own rows, threads and shared memory.
template <class T, int kDims>
struct PlainKernels {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    static_assert(sizeof(A) > 4 ||  // f64 is the executor's
                  (attention_forward_memory<A, kDims>(kDims).shared().bytes <= kSmallestMemory &&
                   attention_backward_memory<A, kDims>(kDims).shared().bytes <= kSmallestMemory));
    static auto forward() { return &attention_forward_kernel<T, kDims>; }
    static auto d_query() { return &attention_d_query_kernel<T, kDims>; }
    static auto d_key() { return &attention_d_key_kernel<T, kDims>; }
    static constexpr int forward_own = Tile::kOwn, d_query_own = Tile::kOwn, d_key_own = Tile::kOwn;
    static constexpr int forward_threads = kAttentionThreads, d_query_threads = kAttentionThreads,
                         d_key_threads = kAttentionThreads;
    static simt::SharedBytes forward_memory(int dims) { return attention_forward_memory<A, kDims>(dims).shared(); }
    static simt::SharedBytes d_query_memory(int dims) { return attention_backward_memory<A, kDims>(dims).shared(); }
    static simt::SharedBytes d_key_memory(int dims) { return attention_backward_memory<A, kDims>(dims).shared(); }
};

template <class T, int kDims>
struct TensorCoreKernels {
    using Forward = MmaForward<T, kDims>;
    using Query = MmaQueryGradient<T, kDims>;
    using Key = MmaKeyGradient<T, kDims>;
    static_assert(Forward::memory().shared().bytes <= kSmallestMemory &&
                  Query::memory().shared().bytes <= kSmallestMemory && Key::memory().shared().bytes <= kSmallestMemory);
    static auto forward() { return &attention_mma_forward_kernel<T, kDims>; }
    static auto d_query() { return &attention_mma_d_query_kernel<T, kDims>; }
    static auto d_key() { return &attention_mma_d_key_kernel<T, kDims>; }
    static constexpr int forward_own = Forward::kOwn, d_query_own = Query::kOwn, d_key_own = Key::kOwn;
    static constexpr int forward_threads = Forward::kThreads, d_query_threads = Query::kThreads,
                         d_key_threads = Key::kThreads;
    static simt::SharedBytes forward_memory(int) { return Forward::memory().shared(); }
    static simt::SharedBytes d_query_memory(int) { return Query::memory().shared(); }
    static simt::SharedBytes d_key_memory(int) { return Key::memory().shared(); }
};

/// Not std::conditional_t of the two: only what is used may be instantiated.
template <class T, int kDims>
struct KernelsOf : PlainKernels<T, kDims> {};
template <class T, int kDims>
requires kOnTensorCores<T>
struct KernelsOf<T, kDims> : TensorCoreKernels<T, kDims> {
};

template <class T, int kDims>
void forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
             const AttentionParams& params) {
    using Kernels = KernelsOf<T, kDims>;
    const AttentionOperands<T> operands(in, params);
    launch(Kernels::forward(), attention_grid(ceil_div(in.q.dim(1), Kernels::forward_own), in.q.dim(2), in.q.dim(0)),
           Kernels::forward_threads, Kernels::forward_memory(operands.dims), context.stream(), HeadRows<T>(out),
           data_of<Accumulator<T>>(lse), operands);
}

template <class T, int kDims>
void backward(Context& context, const AttentionGradients& gradients, const AttentionSaved<T>& saved,
              const AttentionInputs& in, const AttentionParams& params) {
    using Kernels = KernelsOf<T, kDims>;
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

/// Scratch memory of the backward pass: D, and partial sums of the sink logit's gradient.
struct BackwardMemory {
    explicit BackwardMemory(const AttentionInputs& in)
        : batches(in.q.dim(0)),
          steps(in.q.dim(1)),
          heads(in.q.dim(2)),
          sink_tiles(ceil_div(steps, kSinkLogitRows)),
          delta_bytes(padded(static_cast<size_t>(batches * steps * heads) * size_of(accumulation_dtype(in.q.dtype)))) {}
    size_t bytes() const { return delta_bytes + static_cast<size_t>(heads * batches * sink_tiles) * sizeof(double); }

    int64_t batches, steps, heads, sink_tiles;
    size_t delta_bytes;
};

/// D = rowsum(d_out * out), and what it gives the sink logit.
template <class T>
void start_backward(Context& context, const BackwardMemory& plan, char* memory, const AttentionGradients& gradients,
                    const Tensor& d_out, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                    const AttentionParams& params) {
    using A = Accumulator<T>;
    A* delta = reinterpret_cast<A*>(memory);
    launch(attention_delta_kernel<T>, attention_grid(ceil_div(plan.steps, kRowsAtOnce), plan.heads, plan.batches),
           kAttentionThreads, {}, context.stream(), delta, HeadRows<const T>(d_out), HeadRows<const T>(out), plan.steps,
           static_cast<int>(in.q.dim(3)));
    if (!has_learned_sink_logit(params.normaliser)) return;
    auto* partials = reinterpret_cast<double*>(memory + plan.delta_bytes);
    launch(attention_sink_logit_kernel<A>, attention_grid(plan.sink_tiles, plan.heads, plan.batches), kSinkLogitThreads,
           {}, context.stream(), partials, data_of<const A>(params.sink_logit_H), data_of<const A>(lse), delta,
           plan.steps);
    launch(attention_sink_logit_sum_kernel<A>, grid_of(plan.heads, 1), kSinkLogitThreads, {}, context.stream(),
           data_of<A>(gradients.d_sink_logit_H), partials, plan.batches * plan.sink_tiles);
}

/// Weights of rows with this lse; logits without one.
void attention_scores(Context& context, const Tensor& scores, const Tensor& lse, const AttentionInputs& in,
                      const AttentionParams& params) {
    constexpr int kThreads = 128;
    if (scores.numel() == 0) return;
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        launch(attention_scores_kernel<T>, grid_of(scores.numel(), kThreads), kThreads, {}, context.stream(),
               data_of<A>(scores), data_of<const A>(lse), AttentionOperands<T>(in, params), in.q.dim(2), in.k.dim(1),
               scores.numel());
    });
}

}  // namespace

void attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    if (!has_queries(in)) return;
    if (wants_wgmma(context) && wgmma_attention_forward(context, out, lse, in, params)) return;
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        with_tile_dims<T>(in.q.dim(3), [&]<int kDims>() { forward<T, kDims>(context, out, lse, in, params); });
    });
}

void attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const BackwardMemory plan(in);
        const Scratch::Block scratch(context.scratch(), plan.bytes());
        char* memory = static_cast<char*>(scratch.data());
        const A* delta = reinterpret_cast<const A*>(memory);
        if (has_queries(in)) start_backward<T>(context, plan, memory, gradients, d_out, out, lse, in, params);
        if constexpr (kOnTensorCores<T>)
            if (wants_wgmma(context) && wgmma_attention_backward(context, gradients, d_out, lse, delta, in, params))
                return;
        const AttentionSaved<T> saved{HeadRows<const T>(d_out), data_of<const A>(lse), delta};
        with_tile_dims<T>(in.q.dim(3), [&]<int kDims>() { backward<T, kDims>(context, gradients, saved, in, params); });
    });
}

size_t attention_backward_scratch_bytes(const Context&, const AttentionInputs& in) {
    return BackwardMemory(in).bytes();
}

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    attention_scores(context, weights, lse, in, params);
}

void attention_logits(Context& context, const Tensor& logits, const AttentionInputs& in,
                      const AttentionParams& params) {
    attention_scores(context, logits, {}, in, params);
}

}  // namespace ballast::cuda
