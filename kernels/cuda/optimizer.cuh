// Global norm and AdamW over all parameters at once. The flat arrays are divided into pieces that never cross a
// parameter, one block per piece, so one launch handles every tensor. Learning rate, step, loss scale, clip factor and
// the two flags are read from device memory (StepScalars): the host decides nothing within a step. AdamW reads 16 and
// writes 12 bytes per f32 parameter (and 2 for a bf16 copy); the norm reads 4.
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/ops.h"

namespace ballast::cuda {

inline constexpr int kOptimizerThreads = 256;
inline constexpr int64_t kPieceElements = 16384;

/// A run of one parameter's elements.
struct Piece {
    int64_t first, count;  // in the flat arrays
    int32_t parameter, decay;
};

/// Calls f(std::integral_constant<int, N>, i) for the elements [i, i + N) of a piece that belong to the calling thread.
/// N = 4 neighbours, 16 bytes of f32, where the piece is aligned; otherwise, and at its end, N = 1.
template <class F>
__device__ __forceinline__ void for_elements(const Piece& piece, F&& f) {
    constexpr int kPack = 4;
    const int64_t end = piece.first + piece.count, whole = piece.first % kPack == 0 ? piece.count / kPack * kPack : 0;
    SIMT_UNROLL_BY(4)
    for (int64_t i = int64_t{threadIdx.x} * kPack; i < whole; i += int64_t{kOptimizerThreads} * kPack)
        f(std::integral_constant<int, kPack>{}, piece.first + i);
    for (int64_t i = piece.first + whole + threadIdx.x; i < end; i += kOptimizerThreads)
        f(std::integral_constant<int, 1>{}, i);
}

/// partials[b] = sum of squares of piece b, in double.
template <class A>
__global__ void sums_of_squares_kernel(double* partials, const A* gradients, const Piece* pieces) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    const Piece piece = pieces[blockIdx.x];
    double sum = 0;
    for_elements(piece, [&]<int N>(std::integral_constant<int, N>, int64_t i) {
        A g[N];
        load(g, gradients + i);
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) sum += static_cast<double>(g[j]) * static_cast<double>(g[j]);
    });
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// Block p, one warp: sums[p] = the partials of parameter p, by a tree of fixed shape. first_piece [parameters + 1].
static __global__ void parameter_sums_kernel(double* sums, const double* partials, const int32_t* first_piece) {
    const int32_t begin = first_piece[blockIdx.x], end = first_piece[blockIdx.x + 1];
    double sum = 0;
    SIMT_UNROLL_BY(8)
    for (int32_t i = begin + static_cast<int32_t>(threadIdx.x); i < end; i += kWarpSize) sum += partials[i];
    sum = warp_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

/// One block: the norm, the clip factor and the flags from the parameters' sums of squares.
static __global__ void global_norm_kernel(ops::StepScalars* scalars, const double* sums, int parameters,
                                          const double* losses, int num_losses, double clip_norm) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    double total = 0, bad_losses = 0, loss = 0;
    for (int p = static_cast<int>(threadIdx.x); p < parameters; p += kOptimizerThreads) total += sums[p];
    for (int k = static_cast<int>(threadIdx.x); k < num_losses; k += kOptimizerThreads) {
        bad_losses += is_finite(losses[k]) ? 0 : 1;
        loss += losses[k];
    }
    total = block_sum(total, warps);
    bad_losses = block_sum(bad_losses, warps);
    loss = block_sum(loss, warps);
    if (threadIdx.x != 0) return;
    const double norm = sqrt(total) / scalars->loss_scale, excess = (norm + 1e-6) / clip_norm;
    scalars->grad_norm = norm;
    scalars->clip_factor = (clip_norm > 0 && !(excess < 1) ? 1 / excess : 1) / scalars->loss_scale;
    scalars->non_finite = is_finite(norm) && bad_losses == 0 ? 0 : 1;
    scalars->spike = norm > scalars->norm_limit || loss > scalars->loss_limit ? 1 : 0;
}

/// AdamW for one piece; compute may be nullptr. Changes nothing when the step is not finite, or a spike.
template <class T>
__global__ void adamw_kernel(Accumulator<T>* master, T* compute, Accumulator<T>* m, Accumulator<T>* v,
                             const Accumulator<T>* gradients, const Piece* pieces, const ops::StepScalars* scalars,
                             ops::AdamW options) {
    using A = Accumulator<T>;
    SIMT_SHARED(double, corrections, [2]);
    if (scalars->non_finite != 0 || scalars->spike != 0) return;  // the same for all blocks
    if (threadIdx.x < 2)                                           // powers in double are slow: two threads do them
        corrections[threadIdx.x] =
            1 / (1 - pow(threadIdx.x == 0 ? options.beta1 : options.beta2, static_cast<double>(scalars->step)));
    __syncthreads();
    const Piece piece = pieces[blockIdx.x];
    const A clip = static_cast<A>(scalars->clip_factor), rate = static_cast<A>(scalars->learning_rate),
            b1 = static_cast<A>(options.beta1), b2 = static_cast<A>(options.beta2),
            c1 = static_cast<A>(1 - options.beta1), c2 = static_cast<A>(1 - options.beta2),
            i1 = static_cast<A>(corrections[0]), i2 = static_cast<A>(corrections[1]), eps = static_cast<A>(options.eps),
            decay = static_cast<A>(piece.decay ? options.weight_decay : 0);
    for_elements(piece, [&]<int N>(std::integral_constant<int, N>, int64_t i) {
        A g[N], p[N], m0[N], v0[N];  // all loads before the first square root
        load(g, gradients + i);
        load(p, master + i);
        load(m0, m + i);
        load(v0, v + i);
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) {
            const A scaled = clip * g[j];
            m0[j] = b1 * m0[j] + c1 * scaled;
            v0[j] = b2 * v0[j] + c2 * (scaled * scaled);
            p[j] -= rate * (m0[j] * i1 / (sqrt_of(v0[j] * i2) + eps) + decay * p[j]);
        }
        store(m + i, m0);
        store(v + i, v0);
        store(master + i, p);
        if (compute != nullptr) store(compute + i, p);
    });
}

}  // namespace ballast::cuda
