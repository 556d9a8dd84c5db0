// Writes rows of keys and values into the paged cache, and reads them (kernels/ops.h, "Paged cache"). T is the compute
// dtype, C the cache's dtype: T, or narrower with T = f32; values are rounded once, to nearest.
//   write   one thread per pack of kCachePack elements of a row (n, g); the first thread of a row writes its position
//   read    a block of threads for kCacheReadRows rows of a matrix: it looks through the positions of all slots for
//           those of its rows, in shared memory, then copies a pack a thread, or writes zeros where no slot is kept
// Bound by memory: bytes of both sides once; the positions come from L2, 4 bytes a slot for every block. Deterministic:
// no two rows share a slot or a position.
#pragma once

#include "kernels/cuda/attention_rules.cuh"

namespace ballast::cuda {

inline constexpr int kCacheThreads = 256, kCachePack = 4, kCacheReadRows = 128;

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

/// Which positions go to which row of a matrix: position j < sinks to row j, others to row j - shift.
struct ReadPlaces {
    int rows, sinks, key_start, shift;

    ReadPlaces(int64_t count, int64_t num_sinks, int64_t start)
        : rows(static_cast<int>(count)),
          sinks(static_cast<int>(std::min<int64_t>(num_sinks, INT32_MAX))),
          key_start(static_cast<int>(std::min<int64_t>(start, INT32_MAX))),
          shift(key_start - sinks) {
        require(count <= INT32_MAX, "more rows than a cache holds");
    }
    /// The row of a position counted from `first`, if it is one of `count` rows from there; else < 0.
    __device__ int row(int position, int first, int count) const {
        const int row = (position < sinks ? position : position - shift) - first;
        const bool is_read = position >= 0 && (position < sinks || position >= key_start);
        return is_read && static_cast<unsigned>(row) < static_cast<unsigned>(count) ? row : -1;
    }
};

/// slot_of[row - first] = the slot of the cache that holds the row of head g, or -1. All threads must call it.
__device__ __forceinline__ void find_rows(int32_t* slot_of, const int32_t* cached_positions, int64_t cache_blocks,
                                          const CacheTable& table, const ReadPlaces& places, int g, int first,
                                          int count) {
    constexpr unsigned kBlockRows = static_cast<unsigned>(ops::kCacheBlockRows);
    for (unsigned n = threadIdx.x; n < kCacheReadRows; n += kCacheThreads) slot_of[n] = -1;
    __syncthreads();
    const auto slots = static_cast<unsigned>(min(int64_t{table.lengths[g]}, table.width * kBlockRows));
    const int32_t* blocks = table.blocks + g * table.width;
    for (unsigned i = threadIdx.x; i < slots; i += kCacheThreads) {
        const int block = blocks[i / kBlockRows];
        if (block < 0 || block >= cache_blocks) continue;
        const unsigned slot = static_cast<unsigned>(block) * kBlockRows + i % kBlockRows;
        const int row = places.row(cached_positions[slot], first, count);
        if (row >= 0) slot_of[row] = static_cast<int32_t>(slot);
    }
    __syncthreads();
}

template <class T, class C>
__global__ void cache_read_kernel(MatrixRows<T> k, MatrixRows<T> v, CacheMemory<C> cache, CacheTable table,
                                  ReadPlaces places, Divisor packs, int dims, bool packed) {
    SIMT_SHARED(int32_t, slot_of, [kCacheReadRows]);
    const int g = static_cast<int>(blockIdx.y), first = static_cast<int>(blockIdx.x) * kCacheReadRows;
    const int rows = min(kCacheReadRows, places.rows - first);
    find_rows(slot_of, cache.positions, cache.blocks, table, places, g, first, rows);
    const auto all = static_cast<uint32_t>(rows) * packs.value();
    for (uint32_t n = threadIdx.x; n < all; n += kCacheThreads) {
        const auto [row, pack] = packs.divide(n);
        const int d = static_cast<int>(pack) * kCachePack;
        const int64_t to = first + int64_t{row};
        T *to_k = k.at(to, g), *to_v = v.at(to, g);
        if (const int64_t from = int64_t{slot_of[row]} * dims; from >= 0) {
            move_pack(to_k, cache.keys + from, d, dims, packed);
            move_pack(to_v, cache.values + from, d, dims, packed);
        } else {
            zero_pack(to_k, d, dims, k.packed);
            zero_pack(to_v, d, dims, v.packed);
        }
    }
}

}  // namespace ballast::cuda
