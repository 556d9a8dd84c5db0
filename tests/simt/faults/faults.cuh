// Small kernels, each right without its fault and wrong with it: what the executor and the sanitizers must catch.
#pragma once

#include "kernels/simt/ptx.cuh"
#include "kernels/simt/smem.cuh"

namespace ballast::simt::faults {

constexpr int kThreads = 128;

/// y[b n + i] = x[b n + n - 1 - i] through shared memory.
template <bool Fault>
__global__ void missing_barrier(float* y, const float* x) {
    SIMT_SHARED(float, tile, [kThreads]);
    const unsigned i = threadIdx.x, base = blockIdx.x * kThreads;
    tile[i] = x[base + i];
    if constexpr (!Fault) __syncthreads();
    y[base + i] = tile[kThreads - 1 - i];
}

/// The same inside each warp.
template <bool Fault>
__global__ void missing_syncwarp(float* y, const float* x) {
    SIMT_SHARED(float, tile, [kThreads]);
    const unsigned i = threadIdx.x, base = blockIdx.x * kThreads;
    tile[i] = x[base + i];
    if constexpr (!Fault) __syncwarp();
    y[base + i] = tile[i ^ 31];
}

/// y = x, copied asynchronously.
template <bool Fault>
__global__ void missing_wait(float* y, const float* x) {
    Smem smem;
    float* tile = smem.take<float>(4 * kThreads);
    const unsigned i = threadIdx.x, base = 4 * blockIdx.x * kThreads;
    ptx::cp_async_16(tile + 4 * i, x + base + 4 * i);
    ptx::cp_async_commit();
    if constexpr (!Fault) ptx::cp_async_wait<0>();
    __syncthreads();
    for (unsigned j = i; j < 4 * kThreads; j += kThreads) y[base + j] = tile[j];
    if constexpr (Fault) ptx::cp_async_wait<0>();  // too late
}

/// sum += the first x of each block. The barriers order the threads of a block, not the blocks.
template <bool Fault>
__global__ void plain_add_between_blocks(float* sum, const float* x) {
    const float value = x[blockIdx.x * kThreads + threadIdx.x];
    __syncthreads();
    if constexpr (Fault) {
        if (threadIdx.x == 0) *sum += value;
    } else {
        if (threadIdx.x == 0) atomicAdd(sum, value);
    }
    for (int i = 0; i < 2; ++i) __syncthreads();
}

/// y = x; the fault touches one element behind an array.
enum class Where { carved, last_carved, static_array, global };
template <Where Place, bool Fault>
__global__ void out_of_bounds(float* y, const float* x) {
    Smem smem;
    float* first = smem.take<float>(kThreads);
    float* second = smem.take<float>(kThreads);
    SIMT_SHARED(float, fixed, [kThreads]);
    const unsigned i = threadIdx.x, base = blockIdx.x * kThreads;
    float* tile = Place == Where::carved ? first : Place == Where::static_array ? fixed : second;
    tile[i] = x[base + i];
    if (Fault && i == 0) {
        if (Place == Where::global)
            first[0] = x[gridDim.x * kThreads];
        else
            tile[kThreads] = 0;
    }
    __syncthreads();
    y[base + i] = tile[i];
}

/// Half of the threads meet at one barrier, half at another.
template <bool Fault>
__global__ void divergent_barrier(float* y, const float* x) {
    SIMT_SHARED(float, tile, [kThreads]);
    const unsigned i = threadIdx.x, base = blockIdx.x * kThreads;
    tile[i] = x[base + i];
    if (Fault && i < kThreads / 2)
        __syncthreads();
    else
        __syncthreads();
    y[base + i] = tile[kThreads - 1 - i];
}

/// A barrier in a branch that a part of the block takes.
template <bool Fault>
__global__ void skipped_barrier(float* y, const float* x) {
    const unsigned i = threadIdx.x, base = blockIdx.x * kThreads;
    for (unsigned turn = 0; turn < (Fault && i >= 64 ? 1 : 2); ++turn) __syncthreads();
    y[base + i] = x[base + i];
}

/// Lanes of one warp in different shuffles.
template <bool Fault>
__global__ void divergent_shuffle(float* y, const float* x) {
    const unsigned i = threadIdx.x, base = blockIdx.x * kThreads;
    float value = x[base + i];
    if (Fault && (i & 1))
        value = __shfl_xor_sync(~0u, value, 1);
    else
        value = __shfl_xor_sync(~0u, value, 1);
    y[base + i] = value;
}

/// A wait at a named barrier that not enough threads arrive at.
template <bool Fault>
__global__ void forgotten_arrival(float* y, const float* x) {
    const unsigned i = threadIdx.x, base = blockIdx.x * kThreads;
    if (i < 32)
        ptx::named_barrier_wait(1, 64);
    else if (i < (Fault ? 32 : 64))
        ptx::named_barrier_arrive(1, 64);
    y[base + i] = x[base + i];
}

}  // namespace ballast::simt::faults
