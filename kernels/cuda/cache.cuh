// Writes rows of keys and values into the paged cache, and reads them (kernels/ops.h, "Paged cache"). T is the compute
// dtype, C the cache's dtype: T, or narrower with T = f32; values are rounded once, to nearest.
//   write   one thread per pack of kCachePack elements of a row (n, g); the first thread of a row writes its position
//   read    first zeros the matrices, a thread a pack, then one thread per pack of a slot, which finds its row by its
//           position
// Bound by memory: bytes of both sides once. Deterministic: no two rows share a slot or a position.
#pragma once

#include "kernels/cuda/attention_rules.cuh"

namespace ballast::cuda {

inline constexpr int kCacheThreads = 256, kCachePack = 4;

/// Calls f(T{}, C{}) with the device's types of the model and the cache.
template <class F>
void with_cache_types(Dtype compute, Dtype cache, F&& f) {
    with_compute_type(compute, [&]<class T>(T) {
        if (compute == cache) return f(T{}, T{});
        if constexpr (std::is_same_v<T, float>) {
            if (cache == Dtype::bf16) return f(T{}, __nv_bfloat16{});
            if (cache == Dtype::f16) return f(T{}, __half{});
        }
        require(false, "a dtype of the cache without CUDA kernels");
    });
}

/// Rows of a strided [N,G,D] view with a contiguous last dim.
template <class T>
struct MatrixRows {
    T* data;
    int64_t row_stride, head_stride;
    bool packed;  // kCachePack neighbours can be moved by one instruction, from any multiple of kCachePack

    explicit MatrixRows(const Tensor& x)
        : data(static_cast<T*>(x.data)),
          row_stride(x.stride[0]),
          head_stride(x.stride[1]),
          packed(reinterpret_cast<uintptr_t>(x.data) % (kCachePack * sizeof(T)) == 0 &&
                 (row_stride | head_stride) % kCachePack == 0) {}
    __host__ __device__ T* at(int64_t n, int64_t g) const { return data + n * row_stride + g * head_stride; }
};

/// The cache's memory.
template <class C>
struct CacheMemory {
    C *keys, *values;
    int32_t* positions;
    int64_t blocks;

    explicit CacheMemory(const PagedCache& cache)
        : keys(data_of<C>(cache.keys_PRD)),
          values(data_of<C>(cache.values_PRD)),
          positions(data_of<int32_t>(cache.positions_PR)),
          blocks(cache.positions_PR.dim(0)) {}
};

/// The tables of a call's rows.
struct CacheTable {
    const int32_t *blocks, *lengths;
    int64_t width, groups;

    explicit CacheTable(const CacheRows& rows)
        : blocks(data_of<const int32_t>(rows.table_BGW)),
          lengths(data_of<const int32_t>(rows.length_BG)),
          width(rows.table_BGW.dim(2)),
          groups(rows.table_BGW.dim(1)) {}
};

/// Elements [d, d + kCachePack) of a row, up to its end, converted from one type to another.
template <class To, class From>
__device__ __forceinline__ void move_pack(To* to, const From* from, int d, int dims, bool packed) {
    using A = Accumulator<From>;
    if (packed && d + kCachePack <= dims) {
        A x[kCachePack];
        load(x, from + d);
        store(to + d, x);
        return;
    }
    for (int e = d; e < min(d + kCachePack, dims); ++e) to[e] = narrow<To>(widen(from[e]));
}

/// Zeros in the same elements.
template <class T>
__device__ __forceinline__ void zero_pack(T* to, int d, int dims, bool packed) {
    if (packed && d + kCachePack <= dims) {
        const Accumulator<T> zeros[kCachePack] = {};
        store(to + d, zeros);
        return;
    }
    for (int e = d; e < min(d + kCachePack, dims); ++e) to[e] = narrow<T>(0);
}

/// The packs of `outer` times `inner` rows, one a thread: of a pair (o, i), elements [d, d + kCachePack).
struct RowPacks {
    Divisor inner, packs;
    uint32_t count;

    RowPacks(int64_t outer, int64_t inner_rows, int64_t dims)
        : inner(inner_rows),
          packs(ceil_div(dims, kCachePack)),
          count(units_of(outer * inner_rows * ceil_div(dims, kCachePack))) {}

    struct Place {
        uint32_t row, outer, inner;  // row = outer * (rows of inner) + inner
        int d;
    };
    __device__ __forceinline__ Place at(uint32_t n) const {
        const Divisor::Parts in_row = packs.divide(n), pair = inner.divide(in_row.quotient);
        return {in_row.quotient, pair.quotient, pair.remainder, static_cast<int>(in_row.remainder) * kCachePack};
    }
};

template <class T, class C>
__global__ void cache_write_kernel(CacheMemory<C> cache, MatrixRows<const T> k, MatrixRows<const T> v,
                                   const int32_t* slots, const int32_t* positions, RowPacks all, int dims,
                                   bool packed) {
    const uint32_t n = blockIdx.x * kCacheThreads + threadIdx.x;
    if (n >= all.count) return;
    const auto [row, step, g, d] = all.at(n);
    const int64_t slot = slots[row];
    if (slot < 0 || slot >= cache.blocks * ops::kCacheBlockRows) return;
    move_pack(cache.keys + slot * dims, k.at(step, g), d, dims, packed);
    move_pack(cache.values + slot * dims, v.at(step, g), d, dims, packed);
    if (d == 0) cache.positions[slot] = positions[step];
}

template <class T>
__global__ void cache_zero_kernel(MatrixRows<T> k, MatrixRows<T> v, RowPacks all, int dims) {
    const uint32_t n = blockIdx.x * kCacheThreads + threadIdx.x;
    if (n >= all.count) return;
    const auto [row, step, g, d] = all.at(n);
    zero_pack(k.at(step, g), d, dims, k.packed);
    zero_pack(v.at(step, g), d, dims, v.packed);
}

template <class T, class C>
__global__ void cache_read_kernel(MatrixRows<T> k, MatrixRows<T> v, CacheMemory<C> cache, CacheTable table,
                                  RowPacks all, int64_t rows, int64_t sinks, int64_t key_start, int dims, bool packed) {
    const uint32_t n = blockIdx.x * kCacheThreads + threadIdx.x;
    if (n >= all.count) return;
    const auto [table_row, g, i, d] = all.at(n);
    constexpr auto kBlockRows = static_cast<uint32_t>(ops::kCacheBlockRows);
    if (static_cast<int>(i) >= table.lengths[g]) return;
    const int64_t block = table.blocks[g * table.width + i / kBlockRows];
    if (block < 0 || block >= cache.blocks) return;
    const int64_t slot = block * ops::kCacheBlockRows + i % kBlockRows, position = cache.positions[slot];
    if (position < 0 || (position >= sinks && position < key_start)) return;
    const int64_t row = position < sinks ? position : sinks + position - key_start;
    if (row >= rows) return;
    move_pack(k.at(row, g), cache.keys + slot * dims, d, dims, packed);
    move_pack(v.at(row, g), cache.values + slot * dims, d, dims, packed);
}

}  // namespace ballast::cuda
