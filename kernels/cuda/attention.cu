// Attention, the host's side: which kernels run on which dtypes and shapes. 16-bit types go to the tensor cores
// (attention_mma_*.cuh), wider ones to the plain multipliers (attention_fma.cuh).

#include "kernels/cuda/attention_fma.cuh"
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

/// Blocks for tiles x heads x batches.
dim3 attention_grid(int64_t tiles, int64_t heads, int64_t batches) {
    dim3 grid = grid_of(tiles, 1);
    require(heads <= 65535 && batches <= 65535, "attention of more than 65535 heads or batches");
    grid.y = static_cast<unsigned>(heads);
    grid.z = static_cast<unsigned>(batches);
    return grid;
}

bool has_queries(const AttentionInputs& in) { return in.q.dim(0) > 0 && in.q.dim(1) > 0 && in.q.dim(2) > 0; }

template <class T, int kDims>
void forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
             const AttentionParams& params) {
    using A = Accumulator<T>;
    const AttentionOperands<T> operands(in, params);
    if constexpr (kOnTensorCores<T>) {
        using Shape = MmaForward<T, kDims>;
        launch(attention_mma_forward_kernel<T, kDims>,
               attention_grid(ceil_div(in.q.dim(1), Shape::kOwn), in.q.dim(2), in.q.dim(0)), Shape::kThreads,
               Shape::memory().shared(), context.stream(), HeadRows<T>(out), data_of<A>(lse), operands);
        return;
    }
    const int64_t tiles = ceil_div(in.q.dim(1), AttentionTile<A, kDims>::kOwn);
    launch(attention_forward_kernel<T, kDims>, attention_grid(tiles, in.q.dim(2), in.q.dim(0)), kAttentionThreads,
           attention_forward_memory<A, kDims>(operands.dims).shared(), context.stream(), HeadRows<T>(out),
           data_of<A>(lse), operands);
}

template <class T, int kDims>
void backward(Context& context, const AttentionGradients& gradients, const AttentionSaved<T>& saved,
              const AttentionInputs& in, const AttentionParams& params) {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    const AttentionOperands<T> operands(in, params);
    const auto shared = attention_backward_memory<A, kDims>(operands.dims).shared();
    if (has_queries(in))
        launch(attention_d_query_kernel<T, kDims>,
               attention_grid(ceil_div(in.q.dim(1), Tile::kOwn), in.q.dim(2), in.q.dim(0)), kAttentionThreads, shared,
               context.stream(), HeadRows<T>(gradients.d_q), HeadRows<T>(gradients.d_sink_query), saved, operands);
    const KeyPart(&parts)[2] = operands.rules.parts;
    const int64_t key_tiles = ceil_div(parts[0].rows, Tile::kOwn) + ceil_div(parts[1].rows, Tile::kOwn);
    if (key_tiles > 0 && in.k.dim(0) > 0)
        launch(attention_d_key_kernel<T, kDims>, attention_grid(key_tiles, in.k.dim(2), in.k.dim(0)), kAttentionThreads,
               shared, context.stream(), HeadRows<T>(gradients.d_k), HeadRows<T>(gradients.d_v), saved, operands);
}

/// D = rowsum(d_out * out), and what it gives the sink logit.
template <class T>
void start_backward(Context& context, Accumulator<T>* delta, const AttentionGradients& gradients, const Tensor& d_out,
                    const Tensor& out, const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    using A = Accumulator<T>;
    const int64_t batches = in.q.dim(0), steps = in.q.dim(1), heads = in.q.dim(2), rows = batches * steps * heads;
    launch(attention_delta_kernel<T>, grid_of(rows, kRowsAtOnce), kAttentionThreads, {}, context.stream(), delta,
           HeadRows<const T>(d_out), HeadRows<const T>(out), heads, steps, rows, static_cast<int>(in.q.dim(3)));
    if (has_learned_sink_logit(params.normaliser))
        launch(attention_sink_logit_kernel<A>, grid_of(heads, 1), kSinkLogitThreads, {}, context.stream(),
               data_of<A>(gradients.d_sink_logit_H), data_of<const A>(params.sink_logit_H), data_of<const A>(lse),
               delta, batches, steps);
}

}  // namespace

void attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    if (!has_queries(in)) return;
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        with_tile_dims<T>(in.q.dim(3), [&]<int kDims>() { forward<T, kDims>(context, out, lse, in, params); });
    });
}

void attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const Scratch::Block scratch(context.scratch(), cuda::attention_backward_scratch_bytes(context, in));
        A* delta = static_cast<A*>(scratch.data());
        if (has_queries(in)) start_backward<T>(context, delta, gradients, d_out, out, lse, in, params);
        const AttentionSaved<T> saved{HeadRows<const T>(d_out), data_of<const A>(lse), delta};
        with_tile_dims<T>(in.q.dim(3), [&]<int kDims>() { backward<T, kDims>(context, gradients, saved, in, params); });
    });
}

size_t attention_backward_scratch_bytes(const Context&, const AttentionInputs& in) {
    return static_cast<size_t>(in.q.dim(0) * in.q.dim(1) * in.q.dim(2)) * size_of(accumulation_dtype(in.q.dtype));
}

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    constexpr int kThreads = 128;
    if (weights.numel() == 0) return;
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        launch(attention_weights_kernel<T>, grid_of(weights.numel(), kThreads), kThreads, {}, context.stream(),
               data_of<A>(weights), data_of<const A>(lse), AttentionOperands<T>(in, params), in.q.dim(2), in.k.dim(1),
               weights.numel());
    });
}

}  // namespace ballast::cuda
