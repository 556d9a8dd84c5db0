#include "kernels/cuda/attention_measures.cuh"

#include "kernels/cuda/attention_launch.h"

namespace ballast::cuda {

void attention_influence(Context& context, const Influence& influence, int64_t block, const Tensor& d_out,
                         const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                         const AttentionParams& params) {
    const int64_t keys = in.k.dim(1);
    if (!has_queries(in) || keys == 0) return;
    const int64_t rows = ceil_div(in.q.dim(1), block), columns = ceil_div(keys, block);
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const AttentionOperands<T> operands(in, params);
        const InfluenceOperands<T> args{HeadRows<const T>(d_out),
                                        HeadRows<const T>(out),
                                        data_of<const A>(lse),
                                        data_of<A>(influence.absolute_BHIJ),
                                        data_of<A>(influence.signed_sum_BHIJ),
                                        block,
                                        keys,
                                        columns};
        with_mask(params.mask, [&]<bool kByRow>() {
            with_plain_tile_dims(in.q.dim(3), [&]<int kDims>() {
                launch(attention_influence_kernel<T, kDims, kByRow>,
                       attention_grid(rows * columns, in.q.dim(2), in.q.dim(0)), kAttentionThreads,
                       attention_measures_memory<A, kDims, 2>(operands.dims), context.stream(), args, operands);
            });
        });
    });
}

void attention_key_mass(Context& context, const Tensor& mass, const Tensor& lse, const AttentionInputs& in,
                        const AttentionParams& params) {
    if (!has_queries(in) || in.k.dim(1) == 0) return;
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const AttentionOperands<T> operands(in, params);
        with_mask(params.mask, [&]<bool kByRow>() {
            with_plain_tile_dims(in.q.dim(3), [&]<int kDims>() {
                int64_t tiles = 0;
                for (const KeyPart& part : operands.rules.parts)
                    tiles += ceil_div(part.rows, AttentionTile<A, kDims>::kOwn);
                launch(attention_key_mass_kernel<T, kDims, kByRow>, attention_grid(tiles, in.q.dim(2), in.q.dim(0)),
                       kAttentionThreads, attention_measures_memory<A, kDims, 1>(operands.dims), context.stream(),
                       data_of<A>(mass), data_of<const A>(lse), operands, in.k.dim(1));
            });
        });
    });
}

}  // namespace ballast::cuda
