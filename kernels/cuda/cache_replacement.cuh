// Chooses the cached row that the next row replaces (kernels/ops.h, lightest_slots). One block per key-value head of a
// sequence: threads take its slots in turn, each keeps the lightest of its own, and a tree in shared memory reduces
// these. "Lighter" is an order without ties (among equal masses the earlier position, which occurs once), so the result
// does not depend on the order of comparisons. Bound by memory: 8 bytes per slot.
#pragma once

#include "kernels/cuda/cache.cuh"

namespace ballast::cuda {

inline constexpr int kReplacementThreads = 128;

/// A row of the cache that may be replaced; row < 0: none.
template <class A>
struct CachedWeight {
    A mass;
    int position;
    int64_t row;

    __device__ bool lighter_than(const CachedWeight& other) const {
        if (row < 0 || other.row < 0) return row >= 0;
        return mass < other.mass || (mass == other.mass && position < other.position);
    }
};

/// The row of a slot; < 0 when the table is invalid.
__device__ __forceinline__ int64_t row_of_slot(const int32_t* blocks, int64_t slot, int64_t cache_blocks) {
    const int64_t block = blocks[slot / ops::kCacheBlockRows];
    return 0 <= block && block < cache_blocks ? block * ops::kCacheBlockRows + slot % ops::kCacheBlockRows : -1;
}

template <class A>
__global__ void lightest_slots_kernel(int32_t* slots, A* mass, const int32_t* positions, const int32_t* table,
                                      const int32_t* position, int64_t cache_blocks, int64_t groups, int64_t width,
                                      int64_t capacity, int64_t recent) {
    SIMT_SHARED(CachedWeight<A>, lightest, [kReplacementThreads]);
    const int64_t bg = blockIdx.x, p = position[bg / groups];
    const int32_t* blocks = table + bg * width;
    const int tid = static_cast<int>(threadIdx.x);
    CachedWeight<A> best{A(0), 0, -1};
    if (p < capacity) {
        if (tid == 0 && p >= 0) best.row = row_of_slot(blocks, p, cache_blocks);
    } else {
        for (int64_t slot = tid; slot < capacity; slot += kReplacementThreads) {
            CachedWeight<A> here{A(0), 0, row_of_slot(blocks, slot, cache_blocks)};
            if (here.row < 0) continue;
            here.position = positions[here.row];
            if (here.position >= p - recent) continue;
            here.mass = mass[here.row];
            if (here.mass != here.mass) here.mass = kMinusInfinity<A>;
            if (here.lighter_than(best)) best = here;
        }
    }
    lightest[tid] = best;
    for (int half = kReplacementThreads / 2; half > 0; half /= 2) {
        __syncthreads();
        if (tid < half && lightest[tid + half].lighter_than(lightest[tid])) lightest[tid] = lightest[tid + half];
    }
    if (tid != 0) return;
    const int64_t row = lightest[0].row;
    slots[bg] = static_cast<int32_t>(row);
    if (row >= 0) mass[row] = 0;
}

}  // namespace ballast::cuda
