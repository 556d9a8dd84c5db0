// LayerNorm and, with kCentred = false, RMSNorm: the same without mean and bias. One warp a row, 8 rows a block.
//   forward:  out = (x - mean) rstd weight + bias, two passes over the row for mean and variance
//             (RMSNorm: out = x rstd weight, rstd from the mean of squares)
//   backward: with n = (x - mean) rstd and g = d_out weight,
//     d_x += rstd (g - mean(g) - n mean(g n)),  d_weight += sum over rows of d_out n,  d_bias += sum over rows of d_out
//             (RMSNorm: no mean(g), no d_bias)
// x, out, d_out, d_x [rows, channels], weight, bias [channels] of T; all arithmetic, mean, rstd [rows], d_weight,
// d_bias [channels] in Accumulator<T>. Saved for the backward pass: mean and rstd. No shared memory. Rows are read
// again for every pass; they stay in L1 (a row of 768 bf16 is 1.5 KB), so memory sees each byte once: forward 2 C
// sizeof(T) a row, backward 4 C sizeof(T). Deterministic: lanes take fixed columns, sums over lanes are butterflies,
// sums over rows go by column_sums.cuh.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

inline constexpr int kLayerNormThreads = 256, kLayerNormWarps = kLayerNormThreads / kWarpSize;

/// N elements a lane at once. mean and bias are read and written by LayerNorm only.
template <class T, int N, bool kCentred>
__global__ void layernorm_forward_kernel(T* out, Accumulator<T>* mean, Accumulator<T>* rstd, const T* x,
                                         const T* weight, const T* bias, int64_t rows, int64_t channels,
                                         Accumulator<T> eps) {
    using A = Accumulator<T>;
    const int64_t row = int64_t{blockIdx.x} * kLayerNormWarps + threadIdx.x / kWarpSize;
    if (row >= rows) return;
    const int64_t first = threadIdx.x % kWarpSize * N, step = kWarpSize * N;
    const T* from = x + row * channels;
    A values[N], w[N], b[N] = {}, m = 0, sum = 0;
    if constexpr (kCentred) {
        for (int64_t c = first; c < channels; c += step) {
            load(values, from + c);
            SIMT_UNROLL
            for (int i = 0; i < N; ++i) sum += values[i];
        }
        m = warp_sum(sum) / static_cast<A>(channels);
        sum = 0;
    }
    for (int64_t c = first; c < channels; c += step) {
        load(values, from + c);
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) sum += (values[i] - m) * (values[i] - m);
    }
    const A r = A(1) / sqrt_of(warp_sum(sum) / static_cast<A>(channels) + eps);
    for (int64_t c = first; c < channels; c += step) {
        load(values, from + c);
        load(w, weight + c);
        if constexpr (kCentred) load(b, bias + c);
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) values[i] = (values[i] - m) * r * w[i] + b[i];
        store(out + row * channels + c, values);
    }
    if (threadIdx.x % kWarpSize == 0) {
        if constexpr (kCentred) mean[row] = m;
        rstd[row] = r;
    }
}

/// d_x of every row.
template <class T, int N, bool kCentred>
__global__ void layernorm_backward_kernel(T* d_x, const T* d_out, const T* x, const T* weight,
                                          const Accumulator<T>* mean, const Accumulator<T>* rstd, int64_t rows,
                                          int64_t channels) {
    using A = Accumulator<T>;
    const int64_t row = int64_t{blockIdx.x} * kLayerNormWarps + threadIdx.x / kWarpSize;
    if (row >= rows) return;
    const int64_t first = threadIdx.x % kWarpSize * N, step = kWarpSize * N, begin = row * channels;
    const A m = kCentred ? mean[row] : A(0), r = rstd[row];
    A values[N], g[N], w[N], sum_g = 0, sum_gn = 0;
    for (int64_t c = first; c < channels; c += step) {
        load(values, x + begin + c);
        load(g, d_out + begin + c);
        load(w, weight + c);
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) {
            const A weighted = g[i] * w[i];
            if constexpr (kCentred) sum_g += weighted;
            sum_gn += weighted * ((values[i] - m) * r);
        }
    }
    const A mean_g = kCentred ? warp_sum(sum_g) / static_cast<A>(channels) : A(0);
    const A mean_gn = warp_sum(sum_gn) / static_cast<A>(channels);
    for (int64_t c = first; c < channels; c += step) {
        A d[N];
        load(values, x + begin + c);
        load(g, d_out + begin + c);
        load(w, weight + c);
        load(d, d_x + begin + c);
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) d[i] += (g[i] * w[i] - mean_g - (values[i] - m) * r * mean_gn) * r;
        store(d_x + begin + c, d);
    }
}

/// partials [gridDim.y, 2, channels]: d_weight and d_bias of each block's rows (RMSNorm: [gridDim.y, channels]). A
/// thread owns N columns.
template <class T, int N, bool kCentred>
__global__ void layernorm_parameters_kernel(Accumulator<T>* partials, const T* d_out, const T* x,
                                            const Accumulator<T>* mean, const Accumulator<T>* rstd, int64_t rows,
                                            int64_t rows_per_block, int64_t channels) {
    using A = Accumulator<T>;
    const int64_t c = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (c >= channels) return;
    const int64_t begin = blockIdx.y * rows_per_block, end = min(rows, begin + rows_per_block);
    constexpr int kParameters = kCentred ? 2 : 1;
    A values[N], g[N], d_weight[N] = {}, d_bias[N] = {};
    for (int64_t row = begin; row < end; ++row) {
        load(values, x + row * channels + c);
        load(g, d_out + row * channels + c);
        const A m = kCentred ? mean[row] : A(0), r = rstd[row];
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) {
            d_weight[i] += g[i] * ((values[i] - m) * r);
            d_bias[i] += g[i];
        }
    }
    A* to = partials + int64_t{blockIdx.y} * kParameters * channels + c;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) {
        to[i] = d_weight[i];
        if constexpr (kCentred) to[channels + i] = d_bias[i];
    }
}

}  // namespace ballast::cuda
