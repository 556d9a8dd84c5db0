// LayerNorm of the residual stream, computed when the stream is written. With kCentred = false it is RMSNorm: the same
// without a mean. Biases may be absent. One warp per row, 8 rows per block.
//   forward:  y = a + b + c, rounded; then kNorms times out = (y - mean) rstd weight + bias, with the mean and the
//             variance in two passes (RMSNorm: out = y rstd weight, rstd from the mean of squares)
//   backward: with n = (y - mean) rstd and g = d_out weight, for every norm in turn
//     d_y += rstd (g - mean(g) - n mean(g n)),  d_weight += sum over rows of d_out n,  d_bias += sum over rows of d_out
//             (RMSNorm: no mean(g))
// a, b, c, y, out, d_out, d_y [rows, channels] and weight, bias [channels] are of T. All arithmetic, and mean, rstd
// [rows], d_weight, d_bias [channels], are in Accumulator<T>. Saved for the backward pass: mean and rstd. The forward
// pass overwrites, the backward pass accumulates. No shared memory. Each byte crosses memory once: forward (3 + 1 +
// kNorms) C sizeof(T) per row (without b and c: 1 + kNorms); backward (3 + kNorms) C and, for the parameters, (1 +
// kNorms) C again, much of it from L2. In the forward pass a lane keeps its part of y in registers, up to kHeldPacks
// packs (2048 bf16 or 1024 f32 per row). Wider and unaligned rows, and the backward pass, read it again from L1 or L2.
// Deterministic: lanes have fixed columns, sums over lanes are butterflies, and column_sums.cuh and partial_sums.cuh
// add the rows.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

inline constexpr int kLayerNormThreads = 256, kLayerNormWarps = kLayerNormThreads / kWarpSize;
inline constexpr int kHeldPacks = 8, kRowsInFlight = 4;

/// y = a + b + c. When b is absent, y is not written and is the same as a.
template <class T>
struct Residual {
    T* y;
    const T *a, *b, *c;
};

template <class T, int kNorms>
struct NormOutputs {
    T* out[kNorms];
    const T *weight[kNorms], *bias[kNorms];
};

template <class T, int kNorms>
struct NormGradients {
    const T *d_out[kNorms], *weight[kNorms];
};

/// The elements of y at i, rounded; writes them if they are new.
template <class T, int N>
__device__ __forceinline__ Pack<T, N> residual_at(const Residual<T>& r, int64_t i) {
    if (r.b == nullptr) return *reinterpret_cast<const Pack<T, N>*>(r.a + i);
    Accumulator<T> sum[N], term[N];
    load(sum, r.a + i);
    load(term, r.b + i);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) sum[j] += term[j];
    if (r.c != nullptr) {
        load(term, r.c + i);
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) sum[j] += term[j];
    }
    Pack<T, N> y;
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) y.v[j] = narrow<T>(sum[j]);
    *reinterpret_cast<Pack<T, N>*>(r.y + i) = y;
    return y;
}

/// N elements per lane at a time, kHeld packs of them in registers (0: y is read again). `mean` is for LayerNorm.
template <class T, int N, int kHeld, int kNorms, bool kCentred>
__global__ void layernorm_forward_kernel(Residual<T> residual, NormOutputs<T, kNorms> norms, Accumulator<T>* mean,
                                         Accumulator<T>* rstd, int64_t rows, int64_t channels, Accumulator<T> eps) {
    using A = Accumulator<T>;
    const int64_t row = int64_t{blockIdx.x} * kLayerNormWarps + threadIdx.x / kWarpSize;
    if (row >= rows) return;
    const int64_t first = threadIdx.x % kWarpSize * N, step = kWarpSize * N, begin = row * channels;
    Pack<T, N> held[kHeld > 0 ? kHeld : 1];
    // Calls body(c, pack) for every pack of the lane; the first time the packs are computed from a, b and c.
    const auto for_packs = [&](bool first_time, auto&& body) {
        if constexpr (kHeld > 0) {
            SIMT_UNROLL
            for (int p = 0; p < kHeld; ++p) {
                const int64_t c = first + p * step;
                if (c >= channels) continue;
                if (first_time) held[p] = residual_at<T, N>(residual, begin + c);
                body(c, held[p]);
            }
        } else {
            const T* y = residual.b == nullptr ? residual.a : residual.y;
            for (int64_t c = first; c < channels; c += step) {
                held[0] = first_time ? residual_at<T, N>(residual, begin + c)
                                     : *reinterpret_cast<const Pack<T, N>*>(y + begin + c);
                body(c, held[0]);
            }
        }
    };
    A m = 0, sum = 0;
    if constexpr (kCentred) {
        for_packs(true, [&](int64_t, const Pack<T, N>& y) {
            SIMT_UNROLL
            for (int i = 0; i < N; ++i) sum += widen(y.v[i]);
        });
        m = warp_sum(sum) / static_cast<A>(channels);
        sum = 0;
    }
    for_packs(!kCentred, [&](int64_t, const Pack<T, N>& y) {
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) sum += (widen(y.v[i]) - m) * (widen(y.v[i]) - m);
    });
    const A r = A(1) / sqrt_of(warp_sum(sum) / static_cast<A>(channels) + eps);
    for_packs(false, [&](int64_t c, const Pack<T, N>& y) {
        SIMT_UNROLL
        for (int k = 0; k < kNorms; ++k) {
            A out[N], w[N], b[N] = {};
            load(w, norms.weight[k] + c);
            if (norms.bias[k] != nullptr) load(b, norms.bias[k] + c);
            SIMT_UNROLL
            for (int i = 0; i < N; ++i) out[i] = (widen(y.v[i]) - m) * r * w[i] + b[i];
            store(norms.out[k] + begin + c, out);
        }
    });
    if (threadIdx.x % kWarpSize == 0) {
        if constexpr (kCentred) mean[row] = m;
        rstd[row] = r;
    }
}

/// d_y of every row.
template <class T, int N, int kNorms, bool kCentred>
__global__ void layernorm_backward_kernel(T* d_y, NormGradients<T, kNorms> norms, const T* y,
                                          const Accumulator<T>* mean, const Accumulator<T>* rstd, int64_t rows,
                                          int64_t channels) {
    using A = Accumulator<T>;
    const int64_t row = int64_t{blockIdx.x} * kLayerNormWarps + threadIdx.x / kWarpSize;
    if (row >= rows) return;
    const int64_t first = threadIdx.x % kWarpSize * N, step = kWarpSize * N, begin = row * channels;
    const A m = kCentred ? mean[row] : A(0), r = rstd[row];
    A values[N], g[N], w[N], mean_g[kNorms] = {}, mean_gn[kNorms] = {};
    for (int64_t c = first; c < channels; c += step) {
        load(values, y + begin + c);
        SIMT_UNROLL
        for (int k = 0; k < kNorms; ++k) {
            load(g, norms.d_out[k] + begin + c);
            load(w, norms.weight[k] + c);
            SIMT_UNROLL
            for (int i = 0; i < N; ++i) {
                const A weighted = g[i] * w[i];
                if constexpr (kCentred) mean_g[k] += weighted;
                mean_gn[k] += weighted * ((values[i] - m) * r);
            }
        }
    }
    SIMT_UNROLL
    for (int k = 0; k < kNorms; ++k) {
        if constexpr (kCentred) mean_g[k] = warp_sum(mean_g[k]) / static_cast<A>(channels);
        mean_gn[k] = warp_sum(mean_gn[k]) / static_cast<A>(channels);
    }
    for (int64_t c = first; c < channels; c += step) {
        A d[N];
        load(values, y + begin + c);
        load(d, d_y + begin + c);
        SIMT_UNROLL
        for (int k = 0; k < kNorms; ++k) {
            load(g, norms.d_out[k] + begin + c);
            load(w, norms.weight[k] + c);
            SIMT_UNROLL
            for (int i = 0; i < N; ++i) d[i] += (g[i] * w[i] - mean_g[k] - (values[i] - m) * r * mean_gn[k]) * r;
        }
        store(d_y + begin + c, d);
    }
}

/// partials [gridDim.y, kNorms, 2, channels], for d_weight and d_bias: sums of each block's rows. A thread owns N
/// columns. It issues the loads of kRowsInFlight rows before their sums, so that few threads keep memory busy.
template <class T, int N, int kNorms, bool kCentred>
__global__ void layernorm_parameters_kernel(Accumulator<T>* partials, NormGradients<T, kNorms> norms, const T* y,
                                            const Accumulator<T>* mean, const Accumulator<T>* rstd, int64_t rows,
                                            int64_t rows_per_block, int64_t channels) {
    using A = Accumulator<T>;
    const int64_t c = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (c >= channels) return;
    const int64_t begin = blockIdx.y * rows_per_block, end = min(rows, begin + rows_per_block);
    A d_weight[kNorms][N] = {}, d_bias[kNorms][N] = {};
    for (int64_t row = begin; row < end; row += kRowsInFlight) {
        Pack<T, N> values[kRowsInFlight], gradients[kRowsInFlight][kNorms];
        A m[kRowsInFlight], r[kRowsInFlight];
        SIMT_UNROLL
        for (int j = 0; j < kRowsInFlight; ++j) {
            const int64_t at = min(row + j, end - 1);
            values[j] = *reinterpret_cast<const Pack<T, N>*>(y + at * channels + c);
            SIMT_UNROLL
            for (int k = 0; k < kNorms; ++k)
                gradients[j][k] = *reinterpret_cast<const Pack<T, N>*>(norms.d_out[k] + at * channels + c);
            m[j] = kCentred ? mean[at] : A(0);
            r[j] = rstd[at];
        }
        SIMT_UNROLL
        for (int j = 0; j < kRowsInFlight; ++j) {
            if (row + j >= end) break;
            SIMT_UNROLL
            for (int k = 0; k < kNorms; ++k) {
                SIMT_UNROLL
                for (int i = 0; i < N; ++i) {
                    const A g = widen(gradients[j][k].v[i]);
                    d_weight[k][i] += g * ((widen(values[j].v[i]) - m[j]) * r[j]);
                    d_bias[k][i] += g;
                }
            }
        }
    }
    SIMT_UNROLL
    for (int k = 0; k < kNorms; ++k) {
        A* to = partials + (int64_t{blockIdx.y} * kNorms + k) * 2 * channels + c;
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) {
            to[i] = d_weight[k][i];
            to[channels + i] = d_bias[k][i];
        }
    }
}

}  // namespace ballast::cuda
