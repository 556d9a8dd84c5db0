// Writes rows of keys and values into the paged cache, and reads them as matrices.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/cache.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/cached_attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

template <class To, class From>
HWY_INLINE void convert_row(To* to, const From* from, int64_t count) {
    const hn::ScalableTag<Accumulator<From>> d;
    for_vectors(d, count, [&](int64_t i, auto lanes) HWY_ATTR { store(load(d, from + i, lanes), d, to + i, lanes); });
}

void cache_write(Context& context, const PagedCache& cache, const Tensor& k, const Tensor& v, const Tensor& slots,
                 const Tensor& positions) {
    const int64_t rows = k.dim(0), heads = k.dim(1), dims = k.dim(2), size = cache.positions_PR.numel();
    const int32_t *slot_of = slots.ptr<int32_t>(), *position_of = positions.ptr<int32_t>();
    const Blocks blocks = row_blocks(rows, heads * dims);
    int32_t* cached_position = cache.positions_PR.ptr<int32_t>();
    with_cache_types(k.dtype, cache.keys_PRD.dtype, [&]<class T, class C>(T, C) {
        C *keys = cache.keys_PRD.ptr<C>(), *values = cache.values_PRD.ptr<C>();
        context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
            for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
                for (int64_t g = 0; g < heads; ++g) {
                    const int64_t slot = slot_of[n * heads + g];
                    if (slot < 0) continue;
                    require(slot < size, "a slot is beyond the cache");
                    cached_position[slot] = position_of[n];
                    convert_row(keys + slot * dims, matrix_row<T>(k, n, g), dims);
                    convert_row(values + slot * dims, matrix_row<T>(v, n, g), dims);
                }
        });
    });
}

void cache_read(Context& context, const Tensor& k, const Tensor& v, const PagedCache& cache, const CacheRows& rows,
                int64_t num_sink_positions, int64_t key_start) {
    const int64_t count = k.dim(0), heads = k.dim(1), dims = k.dim(2), width = rows.table_BGW.dim(2);
    const Blocks blocks = row_blocks(count, heads * dims);
    with_cache_types(k.dtype, cache.keys_PRD.dtype, [&]<class T, class C>(T, C) {
        context.pool().parallel_for(blocks.size(), [&](int64_t block) {
            for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
                for (int64_t g = 0; g < heads; ++g)
                    for (const Tensor* to : {&k, &v}) std::fill_n(matrix_row<T>(*to, n, g), dims, T{});
        });
        context.pool().parallel_for(heads * width, [&](int64_t task) HWY_ATTR {
            const int64_t g = task / width;
            const CacheBlock cached(cache, rows, g, task % width);
            if (cached.rows == 0) return;
            const C *from_k = cached.in<C>(cache.keys_PRD), *from_v = cached.in<C>(cache.values_PRD);
            for (int64_t r = 0; r < cached.rows; ++r) {
                const int64_t position = cached.positions[r];
                if (position < 0 || (position >= num_sink_positions && position < key_start)) continue;
                const int64_t n = position < num_sink_positions ? position : num_sink_positions + position - key_start;
                if (n >= count) continue;
                convert_row(matrix_row<T>(k, n, g), from_k + r * dims, dims);
                convert_row(matrix_row<T>(v, n, g), from_v + r * dims, dims);
            }
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(cache_write);
HWY_EXPORT(cache_read);

void cache_write(Context& context, const PagedCache& cache, const Tensor& k, const Tensor& v, const Tensor& slots,
                 const Tensor& positions) {
    HWY_DYNAMIC_DISPATCH(cache_write)(context, cache, k, v, slots, positions);
}

void cache_read(Context& context, const Tensor& k, const Tensor& v, const PagedCache& cache, const CacheRows& rows,
                int64_t num_sink_positions, int64_t key_start) {
    HWY_DYNAMIC_DISPATCH(cache_read)(context, k, v, cache, rows, num_sink_positions, key_start);
}

}  // namespace ballast::cpu
#endif
