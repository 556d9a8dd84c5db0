#include "kernels/cuda/attention_span_effect.cuh"

#include "kernels/cuda/attention_launch.h"

namespace ballast::cuda {

void attention_span_effect(Context& context, const Tensor& effect, int64_t block, int64_t sinks, const Tensor& d_out,
                           const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                           const AttentionParams& params) {
    const int64_t batch = in.q.dim(0), steps = in.q.dim(1), heads = in.q.dim(2), spans = effect.dim(2);
    if (!has_queries(in) || in.k.dim(1) == 0 || spans == 0) return;
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const AttentionOperands<T> operands(in, params);
        with_plain_tile_dims(in.q.dim(3), [&]<int kDims>() {
            const int64_t tiles = ceil_div(steps, AttentionTile<A, kDims>::kOwn),
                          by_query = batch * heads * steps * (spans + 1);
            const Scratch::Block scratch(context.scratch(),
                                         static_cast<size_t>(2 * by_query + batch * heads * tiles * spans) * sizeof(A));
            A* const mass = static_cast<A*>(scratch.data());
            const SpanEffectOperands<T> args{HeadRows<const T>(d_out),
                                             HeadRows<const T>(out),
                                             data_of<const A>(lse),
                                             mass,
                                             mass + by_query,
                                             mass + 2 * by_query,
                                             block,
                                             sinks,
                                             spans};
            with_mask(params.mask, [&]<bool kByRow>() {
                launch(attention_span_effect_kernel<T, kDims, kByRow>, attention_grid(tiles, heads, batch),
                       kAttentionThreads, attention_measures_memory<A, kDims, 2>(operands.dims), context.stream(), args,
                       operands);
            });
            const int64_t count = batch * heads * spans;
            launch(add_span_effects_kernel<A>, grid_of(count, kAttentionThreads), kAttentionThreads, {},
                   context.stream(), data_of<A>(effect), static_cast<const A*>(args.tile_sums), count, spans, tiles);
        });
    });
}

}  // namespace ballast::cuda
