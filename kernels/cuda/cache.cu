#include "kernels/cuda/cache.cuh"

namespace ballast::cuda {
namespace {

/// Whether rows of the cache and of a matrix can be moved in packs of kCachePack.
template <class T, class C>
bool can_move_packs(const PagedCache& cache, const MatrixRows<T>& k, const MatrixRows<T>& v, int64_t dims) {
    const auto aligned = [](const Tensor& x) {
        return reinterpret_cast<uintptr_t>(x.data) % (kCachePack * sizeof(C)) == 0;
    };
    return k.packed && v.packed && dims % kCachePack == 0 && aligned(cache.keys_PRD) && aligned(cache.values_PRD);
}

}  // namespace

void cache_write(Context& context, const PagedCache& cache, const Tensor& k, const Tensor& v, const Tensor& slots,
                 const Tensor& positions) {
    const int64_t rows = k.dim(0), groups = k.dim(1), dims = k.dim(2);
    if (k.numel() == 0) return;
    with_cache_types(k.dtype, cache.keys_PRD.dtype, [&]<class T, class C>(T, C) {
        const MatrixRows<const T> from_k(k), from_v(v);
        const RowPacks all(rows, groups, dims);
        launch(cache_write_kernel<T, C>, grid_of(all.count, kCacheThreads), kCacheThreads, {}, context.stream(),
               CacheMemory<C>(cache), from_k, from_v, data_of<const int32_t>(slots), data_of<const int32_t>(positions),
               all, static_cast<int>(dims), can_move_packs<const T, C>(cache, from_k, from_v, dims));
    });
}

void cache_read(Context& context, const Tensor& k, const Tensor& v, const PagedCache& cache, const CacheRows& rows,
                int64_t num_sink_positions, int64_t key_start) {
    const int64_t count = k.dim(0), groups = k.dim(1), dims = k.dim(2);
    if (k.numel() == 0) return;
    require(groups <= UINT16_MAX, "a cache of more heads than a launch has");
    with_cache_types(k.dtype, cache.keys_PRD.dtype, [&]<class T, class C>(T, C) {
        const MatrixRows<T> to_k(k), to_v(v);
        dim3 grid = grid_of(count, kCacheReadRows);
        grid.y = static_cast<unsigned>(groups);
        launch(cache_read_kernel<T, C>, grid, kCacheThreads, {}, context.stream(), to_k, to_v, CacheMemory<C>(cache),
               CacheTable(rows), ReadPlaces(count, num_sink_positions, key_start), Divisor(ceil_div(dims, kCachePack)),
               static_cast<int>(dims), can_move_packs<T, C>(cache, to_k, to_v, dims));
    });
}

}  // namespace ballast::cuda
