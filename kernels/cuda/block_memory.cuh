// InfLLM's block memory (kernels/ops.h, memory_store and memory_lookup). One block of threads per
//   store      key-value head of a sequence, which ends at once unless the position begins a memory block: 64 threads
//              rank the rows of the ring's block by counting, then one thread per dim adds the keys of the highest ones
//              in row order
//   relevance  four memory blocks of a sequence, each by one warp: its lanes take packs of kCachePack dims of all
//              key-value heads in turn, with kMemoryPacks in flight, times those of their query heads; then warp_sum
//   choose     sequence: one thread per memory block ranks it by counting and finds its place among the chosen ones
// Bound by memory: the representatives' bytes. Deterministic: ranks have no ties, sums have one order.
#pragma once

#include "kernels/cuda/cache.cuh"

namespace ballast::cuda {

inline constexpr int kMemoryThreads = 128, kMemoryWarps = kMemoryThreads / static_cast<int>(kWarpSize);
inline constexpr int kMemoryPacks = 4;  // of representatives that a lane has in flight

/// The block table and its parameters. A missing entry or block is < 0.
struct MemoryTable {
    const int32_t *blocks, *position;
    bool shared;  // one table for every sequence
    int64_t groups, width, cache_blocks, local, ring, initial, chosen;
    int representatives;

    MemoryTable(const Tensor& table, const Tensor& at, int64_t in_cache, const BlockMemory& memory)
        : blocks(data_of<const int32_t>(table)),
          position(data_of<const int32_t>(at)),
          shared(table.dim(0) == 1),
          groups(table.dim(1)),
          width(table.dim(2)),
          cache_blocks(in_cache),
          local(memory.local),
          ring(memory.ring_blocks()),
          initial(memory.initial_blocks()),
          chosen(memory.chosen),
          representatives(static_cast<int>(memory.representatives)) {}

    /// The entries of sequence b: [groups,width].
    __device__ const int32_t* of(int64_t b) const { return blocks + (shared ? 0 : b) * groups * width; }
    __device__ int64_t block(int64_t b, int64_t g, int64_t w) const {
        if (w < 0 || w >= width) return -1;
        const int64_t block = of(b)[g * width + w];
        return block < cache_blocks ? block : -1;
    }
    /// The number of blocks that are far as a whole from the query of sequence b.
    __device__ int64_t whole(int64_t b) const {
        const int64_t left = position[b] - local;
        return left < 0 ? 0 : left / ops::kCacheBlockRows;
    }
};

/// True when the value of i is higher than that of n. NaN is the lowest; among equals the earlier one is higher.
template <class A>
__device__ bool is_higher(const A* values, int64_t i, int64_t n) {
    const A a = values[i] == values[i] ? values[i] : kMinusInfinity<A>;
    const A b = values[n] == values[n] ? values[n] : kMinusInfinity<A>;
    return a > b || (a == b && i < n);
}

template <class C>
__global__ void memory_store_kernel(MemoryTable table, Accumulator<C>* representatives, Accumulator<C>* mass,
                                    const C* keys, int32_t* positions, int dims) {
    using A = Accumulator<C>;
    constexpr int kRows = static_cast<int>(ops::kCacheBlockRows);
    SIMT_SHARED(int, is_chosen, [kRows]);
    const int64_t b = blockIdx.x / table.groups, g = blockIdx.x % table.groups, p = table.position[b];
    if (p < 0 || p % kRows != 0) return;
    const int64_t emptied = table.block(b, g, p / kRows % table.ring), n = p / kRows - table.ring;
    if (emptied < 0) return;
    const int64_t block = n < table.initial ? -1 : table.block(b, g, table.ring + n);
    const int tid = static_cast<int>(threadIdx.x);
    A* of_rows = mass + emptied * kRows;
    if (tid < kRows) {
        int rank = 0;
        for (int i = 0; i < kRows; ++i) rank += is_higher(of_rows, i, tid) ? 1 : 0;
        is_chosen[tid] = rank < table.representatives ? 1 : 0;
    }
    __syncthreads();
    if (tid < kRows) {
        of_rows[tid] = 0;
        positions[emptied * kRows + tid] = -1;
    }
    for (int d = tid; block >= 0 && d < dims; d += kMemoryThreads) {
        A sum = 0;
        for (int i = 0; i < kRows; ++i)
            if (is_chosen[i] != 0) sum += widen(keys[(block * kRows + i) * dims + d]);
        representatives[block * dims + d] = sum / static_cast<A>(table.representatives);
    }
}

/// kCachePack elements from p on, zeros after the first `left`; in one load when `packed`.
template <class T>
__device__ __forceinline__ void load_pack(Accumulator<T> (&to)[kCachePack], const T* p, int left, bool packed) {
    if (packed) return load(to, p);
    SIMT_UNROLL
    for (int e = 0; e < kCachePack; ++e) to[e] = e < left ? widen(p[e]) : Accumulator<T>(0);
}

/// relevance[at], at = b count + n, by one warp.
template <class T>
__global__ void memory_relevance_kernel(MemoryTable table, Accumulator<T>* relevance, MatrixRows<const T> q,
                                        const Accumulator<T>* representatives, Divisor count, Divisor packs,
                                        uint32_t all, int heads_per_group, int dims, bool packed) {
    using A = Accumulator<T>;
    const uint32_t at = blockIdx.x * kMemoryWarps + threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
    if (at >= all) return;
    const auto [b, n] = count.divide(at);
    if (n < table.initial || n >= table.whole(b)) return;
    const int64_t w = table.ring + n;
    const int32_t* blocks = table.of(b) + w;  // one every width
    const uint32_t units = w < table.width ? static_cast<uint32_t>(table.groups) * packs.value() : 0;
    const int64_t group_stride = heads_per_group * q.head_stride;
    A sum = 0;
    for (uint32_t first = lane; first < units; first += kWarpSize * kMemoryPacks) {
        A r[kMemoryPacks][kCachePack];
        const T* query[kMemoryPacks];  // null: no such pack, or its block is missing
        int left[kMemoryPacks];
        SIMT_UNROLL
        for (int j = 0; j < kMemoryPacks; ++j) {
            const uint32_t unit = first + static_cast<uint32_t>(j) * kWarpSize;
            const auto [g, pack] = packs.divide(unit);
            const int d = static_cast<int>(pack) * kCachePack, block = unit < units ? blocks[g * table.width] : -1;
            left[j] = dims - d;
            query[j] = nullptr;
            if (block < 0 || block >= table.cache_blocks) continue;
            query[j] = q.data + (b * q.row_stride + g * group_stride + d);
            load_pack<A>(r[j], representatives + (int64_t{block} * dims + d), left[j], packed);
        }
        SIMT_UNROLL
        for (int j = 0; j < kMemoryPacks; ++j) {
            if (query[j] == nullptr) continue;
            SIMT_NO_UNROLL
            for (int h = 0; h < heads_per_group; ++h) {
                A x[kCachePack];
                load_pack(x, query[j] + h * q.head_stride, left[j], packed);
                SIMT_UNROLL
                for (int e = 0; e < kCachePack; ++e) sum += x[e] * r[j][e];
            }
        }
    }
    sum = warp_sum(sum);
    if (lane == 0) relevance[at] = sum;
}

template <class A>
__global__ void memory_choose_kernel(MemoryTable table, int32_t* read, const A* relevance, int64_t count,
                                     int64_t read_width) {
    const int64_t b = blockIdx.x, whole = table.whole(b), first = whole < table.initial ? whole : table.initial;
    const A* of = relevance + b * count;
    const auto name = [&](int64_t place, int64_t w) {
        for (int64_t g = 0; g < table.groups; ++g)
            read[(b * table.groups + g) * read_width + place] = static_cast<int32_t>(table.block(b, g, w));
    };
    const auto is_chosen = [&](int64_t n) {
        int64_t rank = 0;
        for (int64_t i = first; i < whole && rank < table.chosen; ++i) rank += is_higher(of, i, n) ? 1 : 0;
        return rank < table.chosen;
    };
    for (int64_t w = threadIdx.x; w < table.ring + first; w += kMemoryThreads) name(w, w);
    for (int64_t n = first + threadIdx.x; n < whole; n += kMemoryThreads) {
        if (!is_chosen(n)) continue;
        int64_t before = 0;
        for (int64_t i = first; i < n; ++i) before += is_chosen(i) ? 1 : 0;
        name(table.ring + first + before, table.ring + n);
    }
    const int64_t chosen = whole - first < table.chosen ? whole - first : table.chosen;
    if (threadIdx.x == 0 && table.position[b] >= table.local) name(table.ring + first + chosen, table.ring + whole);
}

}  // namespace ballast::cuda
