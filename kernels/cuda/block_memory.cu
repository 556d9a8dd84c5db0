#include "kernels/cuda/block_memory.cuh"

namespace ballast::cuda {

void memory_store(Context& context, const Tensor& representatives, const Tensor& mass, const PagedCache& cache,
                  const Tensor& table, const Tensor& position, const BlockMemory& memory) {
    const int64_t heads = position.dim(0) * table.dim(1);
    if (heads == 0) return;
    with_compute_type(cache.keys_PRD.dtype, [&]<class C>(C) {
        using A = Accumulator<C>;
        launch(memory_store_kernel<C>, grid_of(heads, 1), kMemoryThreads, {}, context.stream(),
               MemoryTable(table, position, cache.positions_PR.dim(0), memory), data_of<A>(representatives),
               data_of<A>(mass), data_of<const C>(cache.keys_PRD), data_of<int32_t>(cache.positions_PR),
               static_cast<int>(cache.keys_PRD.dim(2)));
    });
}

void memory_lookup(Context& context, const Tensor& read, const Tensor& relevance, const Tensor& q,
                   const Tensor& representatives, const Tensor& table, const Tensor& position,
                   const BlockMemory& memory) {
    const int64_t B = position.dim(0), count = relevance.dim(1);
    if (B * table.dim(1) == 0) return;
    with_compute_type(q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const MemoryTable blocks(table, position, representatives.dim(0), memory);
        if (count > 0) {
            const MatrixRows<const T> queries(q);
            const int64_t dims = q.dim(2), all = B * count, packs = ceil_div(dims, kCachePack);
            units_of(table.dim(1) * packs);
            const bool packed = queries.packed && dims % kCachePack == 0 &&
                                reinterpret_cast<uintptr_t>(representatives.data) % (kCachePack * sizeof(A)) == 0;
            launch(memory_relevance_kernel<T>, grid_of(all, kMemoryWarps), kMemoryThreads, {}, context.stream(), blocks,
                   data_of<A>(relevance), queries, data_of<const A>(representatives), Divisor(count), Divisor(packs),
                   units_of(all), static_cast<int>(q.dim(1) / table.dim(1)), static_cast<int>(dims), packed);
        }
        launch(memory_choose_kernel<A>, grid_of(B, 1), kMemoryThreads, {}, context.stream(), blocks,
               data_of<int32_t>(read), data_of<const A>(relevance), count, read.dim(2));
    });
}

}  // namespace ballast::cuda
