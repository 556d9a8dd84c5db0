#include "kernels/cuda/cached_attention_mma.cuh"

namespace ballast::cuda {
namespace {

/// A block's heads: one, or up to four, whose registers hold what they share of a row.
constexpr int kMostHeads = 4;

template <class T, class C>
CachedOperands<T, C> make_operands(const Tensor& out, const Tensor& q, const Tensor& sink_query,
                                   const PagedCache& cache, const CacheRows& rows, const Tensor& query_position,
                                   const CachedAttentionWork& work, const AttentionParams& params, int64_t mass_blocks,
                                   const CachedAttentionPartials<Accumulator<T>>& partials) {
    using A = Accumulator<T>;
    const bool learned = has_learned_sink_logit(params.normaliser);
    const auto in_32_bits = [](int64_t x) { return static_cast<int>(std::min<int64_t>(x, INT32_MAX)); };
    return {MatrixRows<const T>(q),
            MatrixRows<const T>(sink_query),
            MatrixRows<T>(out),
            CacheMemory<const C>(cache),
            CacheTable(rows),
            data_of<const int32_t>(query_position),
            data_of<const int32_t>(work.items_N3),
            data_of<const int32_t>(work.first_BG1),
            static_cast<int32_t>(work.items_N3.dim(0)),
            static_cast<int>(partials.heads_per_group),
            static_cast<int>(q.dim(2)),
            in_32_bits(params.mask.num_sink_positions),
            in_32_bits(params.sink_query_position),
            can_pack_all<C>(q.dim(2), cache.keys_PRD.data, cache.values_PRD.data),
            static_cast<A>(params.scale),
            data_of<const int32_t>(params.mask.span_H),
            data_of<const A>(params.alibi_slope_H),
            learned ? data_of<const A>(params.sink_logit_H) : nullptr,
            learned ? A(0) : sink_logit_value<A>(params.normaliser, nullptr, 0),
            q.dim(0),
            mass_blocks,
            partials};
}

/// Calls f.template operator()<kDims>() with the smallest row shape that holds `dims`.
template <class F>
void with_row_dims(int64_t dims, F&& f) {
    if (dims <= 32) return f.template operator()<32>();
    if (dims <= 64) return f.template operator()<64>();
    if (dims <= 128) return f.template operator()<128>();
    f.template operator()<256>();
}

/// One query head per group: its registers hold what it needs of a row. Several: on tensor cores, where the queries and
/// the cache have the same 16-bit type.
template <int kDims, class T, class C>
void launch_splits(Context& context, dim3 items, const CachedOperands<T, C>& in) {
    const auto per_heads = [&](int heads) {
        return dim3(items.x, static_cast<unsigned>(ceil_div(in.heads_per_group, heads)));
    };
    if (in.heads_per_group == 1) {
        launch(cached_attention_split_kernel<T, C, kDims, 1>, items, kCachedThreads, {}, context.stream(), in);
    } else if constexpr (sizeof(T) == 2) {
        constexpr auto kMemory = CachedMma<T, kDims>::memory().shared();
        launch(cached_attention_split_mma_kernel<T, kDims>, per_heads(kBlockHeads), kCachedThreads, kMemory,
               context.stream(), in);
    } else {
        launch(cached_attention_split_kernel<T, C, kDims, kMostHeads>, per_heads(kMostHeads), kCachedThreads, {},
               context.stream(), in);
    }
}

}  // namespace

void cached_attention_forward(Context& context, const Tensor& out, const Tensor& q, const Tensor& sink_query,
                              const PagedCache& cache, const CacheRows& rows, const Tensor& query_position,
                              const CachedAttentionWork& work, const AttentionParams& params, const SlotMass& mass) {
    const auto shape = cached_attention_shape(q, rows, work, !mass.mass_PR.empty());
    if (shape.sequences == 0) return;
    with_cache_types(q.dtype, cache.keys_PRD.dtype, [&]<class T, class C>(T, C) {
        using A = Accumulator<T>;
        const Scratch::Block memory(context.scratch(), CachedAttentionPartials<A>::bytes(shape));
        const auto in = make_operands<T, C>(out, q, sink_query, cache, rows, query_position, work, params, mass.blocks,
                                            {shape, memory.data()});
        const dim3 items = grid_of(shape.items, 1);
        if (shape.items > 0)
            with_row_dims(shape.head_dim, [&]<int kDims>() { launch_splits<kDims>(context, items, in); });
        launch(cached_attention_merge_kernel<T, C>, grid_of(shape.sequences * shape.heads, 1), kCachedThreads, {},
               context.stream(), in, shape.heads);
        if (shape.with_mass && shape.items > 0)
            launch(cached_attention_mass_kernel<T, C>, items, static_cast<int>(ops::kCacheSplitSlots), {},
                   context.stream(), in, data_of<A>(mass.mass_PR), shape.heads);
    });
}

}  // namespace ballast::cuda
