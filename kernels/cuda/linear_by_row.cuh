// Multiplies few rows of x by the rows of a weight.
//
//   out[n,o] = scale[o] sum_i x[n,i] weight[o,i] + bias[o]
//
// x T [N,I]; weight W [O,I] in T, or in bf16 or i8 where T is wider; scale f32 [O] with i8 weights, else null; bias T
// [O] or null; out Out [N,O], T or its accumulator. Overwritten; nothing is saved.
//
// Launch: one warp per output, kByRowWarps warps per block; the lanes hold kByRowRows rows of x in registers at a time.
// The first pass reads the weight's row from memory, 16 bytes per load; later passes find it in the cache. Determinism:
// lane l takes chunks l, l + 32, … of 16 bytes of weights, then warp_sum adds the lanes. The order depends on I and W
// alone, not on the alignment of x and the weight or on the number of rows.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

inline constexpr int kByRowWarps = 4, kByRowThreads = kByRowWarps * static_cast<int>(kWarpSize), kByRowRows = 8;

__device__ __forceinline__ float fma_of(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ double fma_of(double a, double b, double c) { return fma(a, b, c); }

/// kCount elements from p on, zeros after the first `left`. kPacked: all elements exist and are read by complete loads
/// of 16 bytes.
template <bool kPacked, int kCount, class A, class T>
__device__ __forceinline__ void load_chunk(A (&to)[kCount], const T* p, int64_t left) {
    if constexpr (kPacked) {
        constexpr int kEach = kPackSize<T> < kCount ? kPackSize<T> : kCount;
        SIMT_UNROLL
        for (int j = 0; j < kCount; j += kEach) {
            const Pack<T, kEach> pack = *reinterpret_cast<const Pack<T, kEach>*>(p + j);
            SIMT_UNROLL
            for (int i = 0; i < kEach; ++i) to[j + i] = widen(pack.v[i]);
        }
    } else {
        SIMT_UNROLL
        for (int i = 0; i < kCount; ++i) to[i] = i < left ? widen(p[i]) : A(0);
    }
}

template <class T, class W, class Out, bool kPacked>
__global__ void __launch_bounds__(kByRowThreads)
    linear_by_row_kernel(Out* out, const T* x, const W* weight, const float* scale, const T* bias, int64_t rows,
                         int64_t outputs, int64_t inputs) {
    using A = Accumulator<T>;
    constexpr int kChunk = kPackSize<W>;
    const unsigned lane = threadIdx.x % kWarpSize;
    const int64_t o = int64_t{blockIdx.x} * kByRowWarps + threadIdx.x / kWarpSize;
    if (o >= outputs) return;
    const W* row = weight + o * inputs;
    const A factor = scale == nullptr ? A(1) : A(scale[o]), shift = bias == nullptr ? A(0) : widen(bias[o]);
    for (int64_t first = 0; first < rows; first += kByRowRows) {
        A sum[kByRowRows] = {};
        for (int64_t i = int64_t{lane} * kChunk; i < inputs; i += int64_t{kWarpSize} * kChunk) {
            A w[kChunk];
            load_chunk<kPacked>(w, row + i, inputs - i);
            SIMT_UNROLL
            for (int r = 0; r < kByRowRows; ++r) {
                if (first + r >= rows) break;
                A v[kChunk];
                load_chunk<kPacked>(v, x + (first + r) * inputs + i, inputs - i);
                SIMT_UNROLL
                for (int k = 0; k < kChunk; ++k) sum[r] = fma_of(v[k], w[k], sum[r]);
            }
        }
        SIMT_UNROLL
        for (int r = 0; r < kByRowRows; ++r) {
            if (first + r >= rows) break;
            const A total = warp_sum(sum[r]);
            if (lane == 0) out[(first + r) * outputs + o] = narrow<Out>(fma_of(total, factor, shift));
        }
    }
}

/// out T [O,I] = scale[o] weight[o,i], rounded. A thread has a pack of N elements; `count` and `inputs` are in packs.
template <class T, int N>
__global__ void dequantise_kernel(T* out, const int8_t* weight, const float* scale, uint32_t count, Divisor inputs) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) store_scaled<N>(out + uint64_t{i} * N, weight + uint64_t{i} * N, scale[inputs.divide(i).quotient]);
}

}  // namespace ballast::cuda
