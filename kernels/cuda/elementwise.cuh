// Element-wise ops: add, cast, strided copy, clamp, and the sum of a tensor. All but the sum move each byte once and
// are bound by memory bandwidth; a thread takes one pack of 16 bytes. A copy finds its place without a division and
// counts units in 31 bits: at most 32 GiB in packs.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

/// out = a + b (+ c). Reads 2 or 3, writes 1 element of T each.
template <class T, int N>
__global__ void add_kernel(T* out, const T* a, const T* b, const T* c, int64_t count) {
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    Accumulator<T> x[N], y[N];
    load(x, a + i);
    load(y, b + i);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) x[j] += y[j];
    if (c != nullptr) {
        load(y, c + i);
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) x[j] += y[j];
    }
    store(out + i, x);
}

/// out = in, rounded to To.
template <class To, class From, int N>
__global__ void cast_kernel(To* out, const From* in, int64_t count) {
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    Accumulator<From> x[N];
    load(x, in + i);
    Accumulator<To> y[N];
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) y[j] = static_cast<Accumulator<To>>(x[j]);
    store(out + i, y);
}

/// out = x between -limit and limit. NaN stays.
template <class T, int N>
__global__ void clamp_forward_kernel(T* out, const T* x, int64_t count, Accumulator<T> limit) {
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    Accumulator<T> v[N];
    load(v, x + i);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) v[j] = v[j] < -limit ? -limit : limit < v[j] ? limit : v[j];
    store(out + i, v);
}

/// d_x = d_out where x was not clipped, else 0.
template <class T, int N>
__global__ void clamp_backward_kernel(T* d_x, const T* d_out, const T* x, int64_t count, Accumulator<T> limit) {
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    Accumulator<T> g[N], v[N];
    load(g, d_out + i);
    load(v, x + i);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) g[j] = -limit <= v[j] && v[j] <= limit ? g[j] : Accumulator<T>(0);
    store(d_x + i, g);
}

/// A strided tensor of up to five dims, the last contiguous, for copy_kernel. Of dims 0 to 3, padded with 1 in front,
/// the first needs no extent.
struct StridedRows {
    Divisor width, extent[4];
    int64_t out_stride[4], in_stride[4];
};

/// Rows of `width` units of Unit (an unsigned integer as wide as an element, or as 16 bytes of them).
template <class Unit>
__global__ void copy_kernel(Unit* out, const Unit* in, const __grid_constant__ StridedRows rows, uint32_t count) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    Divisor::Parts place = rows.width.divide(i);
    int64_t to = place.remainder, from = to;
    SIMT_UNROLL
    for (int d = 3; d >= 0; --d) {
        place = d > 0 ? rows.extent[d].divide(place.quotient) : Divisor::Parts{0, place.quotient};
        to += place.remainder * rows.out_stride[d];
        from += place.remainder * rows.in_stride[d];
    }
    out[to] = in[from];
}

inline constexpr int kSumThreads = 256, kSumPerBlock = 16384;

/// partials[b] = sum of block b's kSumPerBlock elements, in double.
template <class A>
__global__ void partial_sums_kernel(double* partials, const A* x, int64_t count) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    const int64_t begin = int64_t{blockIdx.x} * kSumPerBlock;
    const int64_t end = count - begin < kSumPerBlock ? count : begin + kSumPerBlock;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += kSumThreads) sum += static_cast<double>(x[i]);
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// out = the partial sums' sum, by one block.
static __global__ void total_kernel(double* out, const double* partials, int64_t count) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += kSumThreads) sum += partials[i];
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) *out = sum;
}

}  // namespace ballast::cuda
