// The loss of a chunk of logits [rows, V], and their gradient. One block a row, two passes over it: a running maximum
// and sum (Milakov & Gimelshein 2018), then scale (softmax - one_hot(target)). Reads 2 V and writes V elements a row; a
// row of 50,304 f32 is 200 KB, so the second read comes from L2.
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/ops.h"

namespace ballast::cuda {

inline constexpr int kCrossEntropyThreads = 512;

/// sum of exp(x - maximum) over some x.
template <class A>
struct SumOfExp {
    A maximum, sum;

    __device__ __forceinline__ void add(A x) {
        if (x > maximum) {
            sum *= exp_of(maximum - x);
            maximum = x;
        }
        sum += exp_of(x - maximum);  // a NaN gets in here
    }
    __device__ __forceinline__ void add(const SumOfExp& other) {
        const A larger = maximum < other.maximum ? other.maximum : maximum;
        sum = sum * exp_of(maximum - larger) + other.sum * exp_of(other.maximum - larger);
        maximum = larger;
    }
};

/// losses[n] = -log softmax(logits[n])[targets[n]]; with `gradient`, gradient[n] = scale (softmax - one_hot), where
/// scale = loss_factor times the step's loss scale, read here (none: 1). A row with a negative target has neither; a
/// target outside the vocabulary makes its loss NaN. T is the dtype of the products that read the gradient; `gradient`
/// may be `logits`.
template <class T>
__global__ void cross_entropy_kernel(Accumulator<T>* losses, T* gradient, const Accumulator<T>* logits,
                                     const int32_t* targets, int64_t vocabulary, double loss_factor,
                                     const ops::StepScalars* scalars) {
    using A = Accumulator<T>;
    SIMT_SHARED(SumOfExp<A>, warps, [kWarpSize]);
    const int64_t row = blockIdx.x, begin = row * vocabulary, target = targets[row];
    const unsigned warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize;
    if (target < 0) {  // the same for the whole block
        if (threadIdx.x == 0) losses[row] = 0;
        for (int64_t v = threadIdx.x; gradient != nullptr && v < vocabulary; v += kCrossEntropyThreads)
            gradient[begin + v] = narrow<T>(A(0));
        return;
    }
    const A lowest = static_cast<A>(-3e38);  // not -inf: exp(-inf + inf) is NaN
    const A target_logit = target < vocabulary ? logits[begin + target] : static_cast<A>(NAN);
    SumOfExp<A> total{lowest, 0};
    for (int64_t v = threadIdx.x; v < vocabulary; v += kCrossEntropyThreads) total.add(logits[begin + v]);
    SIMT_UNROLL
    for (int lanes = 16; lanes > 0; lanes /= 2)
        total.add({__shfl_xor_sync(kAllLanes, total.maximum, lanes), __shfl_xor_sync(kAllLanes, total.sum, lanes)});
    if (lane == 0) warps[warp] = total;
    __syncthreads();
    total = {lowest, 0};
    for (unsigned w = 0; w < kCrossEntropyThreads / kWarpSize; ++w) total.add(warps[w]);
    if (threadIdx.x == 0) losses[row] = log_of(total.sum) + (total.maximum - target_logit);
    if (gradient == nullptr) return;
    const A scale = static_cast<A>(loss_factor * (scalars == nullptr ? 1.0 : scalars->loss_scale));
    const A factor = scale / total.sum;
    for (int64_t v = threadIdx.x; v < vocabulary; v += kCrossEntropyThreads)
        gradient[begin + v] =
            narrow<T>(exp_of(logits[begin + v] - total.maximum) * factor - (v == target ? scale : A(0)));
}

}  // namespace ballast::cuda
