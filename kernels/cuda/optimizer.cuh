// Global norm and AdamW over all parameters at once. The flat arrays are cut into pieces that never cross a parameter,
// one block a piece, so one launch serves every tensor. Learning rate, step, loss scale, clip factor and the non-finite
// flag are read from device memory (StepScalars): nothing of a step is decided by the host. AdamW reads 16 and writes
// 12 bytes an f32 parameter (and 2 for a bf16 copy); the norm reads 4.
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

/// partials[b] = sum of squares of piece b, in double.
template <class A>
__global__ void sums_of_squares_kernel(double* partials, const A* gradients, const Piece* pieces) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    const Piece piece = pieces[blockIdx.x];
    double sum = 0;
    for (int64_t i = threadIdx.x; i < piece.count; i += kOptimizerThreads) {
        const double g = static_cast<double>(gradients[piece.first + i]);
        sum += g * g;
    }
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// One block: sums[p] = sum of parameter p's partials, in their order, then the scalars. first_piece [parameters + 1].
static __global__ void finish_norm_kernel(ops::StepScalars* scalars, double* sums, const double* partials,
                                          const int32_t* first_piece, int parameters, const double* losses,
                                          int num_losses, double clip_norm) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    double total = 0, bad_losses = 0;
    for (int p = static_cast<int>(threadIdx.x); p < parameters; p += kOptimizerThreads) {
        double sum = 0;
        for (int32_t i = first_piece[p]; i < first_piece[p + 1]; ++i) sum += partials[i];
        sums[p] = sum;
        total += sum;
    }
    for (int k = static_cast<int>(threadIdx.x); k < num_losses; k += kOptimizerThreads)
        bad_losses += is_finite(losses[k]) ? 0 : 1;
    total = block_sum(total, warps);
    bad_losses = block_sum(bad_losses, warps);
    if (threadIdx.x != 0) return;
    const double norm = sqrt(total) / scalars->loss_scale, excess = (norm + 1e-6) / clip_norm;
    scalars->grad_norm = norm;
    scalars->clip_factor = (clip_norm > 0 && !(excess < 1) ? 1 / excess : 1) / scalars->loss_scale;
    scalars->non_finite = is_finite(norm) && bad_losses == 0 ? 0 : 1;
}

/// AdamW of one piece; compute may be nullptr. Nothing changes when the step is not finite.
template <class T>
__global__ void adamw_kernel(Accumulator<T>* master, T* compute, Accumulator<T>* m, Accumulator<T>* v,
                             const Accumulator<T>* gradients, const Piece* pieces, const ops::StepScalars* scalars,
                             ops::AdamW options) {
    using A = Accumulator<T>;
    SIMT_SHARED(double, corrections, [2]);
    if (scalars->non_finite != 0) return;  // the same for all blocks
    if (threadIdx.x < 2)                   // powers in double are slow: two threads take them
        corrections[threadIdx.x] =
            1 / (1 - pow(threadIdx.x == 0 ? options.beta1 : options.beta2, static_cast<double>(scalars->step)));
    __syncthreads();
    const Piece piece = pieces[blockIdx.x];
    const A clip = static_cast<A>(scalars->clip_factor), rate = static_cast<A>(scalars->learning_rate),
            b1 = static_cast<A>(options.beta1), b2 = static_cast<A>(options.beta2),
            c1 = static_cast<A>(1 - options.beta1), c2 = static_cast<A>(1 - options.beta2),
            i1 = static_cast<A>(corrections[0]), i2 = static_cast<A>(corrections[1]), eps = static_cast<A>(options.eps),
            decay = static_cast<A>(piece.decay ? options.weight_decay : 0);
    for (int64_t i = piece.first + threadIdx.x; i < piece.first + piece.count; i += kOptimizerThreads) {
        const A g = clip * gradients[i], p = master[i];
        const A m1 = b1 * m[i] + c1 * g, v1 = b2 * v[i] + c2 * (g * g);
        const A p1 = p - rate * (m1 * i1 / (sqrt_of(v1 * i2) + eps) + decay * p);
        m[i] = m1;
        v[i] = v1;
        master[i] = p1;
        if (compute != nullptr) compute[i] = narrow<T>(p1);
    }
}

}  // namespace ballast::cuda
