// The loss of a chunk of logits [rows, V], and the gradient. One block per row makes two passes: first the running
// maximum and sum (Milakov & Gimelshein 2018), then scale (softmax - one_hot(target)). Reads 2 V and writes V elements
// per row. A row of 50,304 f32 has 200 KB: the second pass runs backwards, so that it starts with the part that is
// still in L1 and L2. A thread takes N neighbours at a time, 16 bytes of the gradient, and rescales its sum at most
// once for them.
#pragma once

#include <algorithm>

#include "kernels/cuda/common.cuh"
#include "kernels/ops.h"
#include "kernels/simt/ptx.cuh"

namespace ballast::cuda {

/// The threads of a row's block: 1,024, or fewer complete warps when the row has fewer packs.
inline constexpr int kCrossEntropyThreads = 1024;
inline int cross_entropy_threads(int64_t packs) {
    return static_cast<int>(std::min<int64_t>(kCrossEntropyThreads, ceil_div(packs, kWarpSize) * kWarpSize));
}

/// e^(x - shift). For products of 16-bit operands the GPU's own 2^x is accurate enough.
template <class T>
__device__ __forceinline__ Accumulator<T> exp_shifted(Accumulator<T> x, Accumulator<T> shift) {
    if constexpr (sizeof(T) == 2) {
        constexpr float kLog2E = 1.4426950408889634f;
        return simt::ptx::exp2_approximate(x * kLog2E - shift * kLog2E);
    } else {
        return exp_of(x - shift);
    }
}

/// sum of exp(x - maximum) over some x; T is the dtype of the products.
template <class T>
struct SumOfExp {
    using A = Accumulator<T>;
    A maximum, sum;

    template <int N>
    __device__ __forceinline__ void add(const A (&x)[N]) {
        A top = x[0];
        SIMT_UNROLL
        for (int j = 1; j < N; ++j) top = x[j] > top ? x[j] : top;
        if (top > maximum) {
            sum *= exp_shifted<T>(maximum, top);
            maximum = top;
        }
        A more = 0;
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) more += exp_shifted<T>(x[j], maximum);  // a NaN propagates here
        sum += more;
    }
    __device__ __forceinline__ void add(const SumOfExp& other) {
        const A larger = maximum < other.maximum ? other.maximum : maximum;
        sum = sum * exp_shifted<T>(maximum, larger) + other.sum * exp_shifted<T>(other.maximum, larger);
        maximum = larger;
    }
};

/// The sum over a block of complete warps, in every thread. `warps` is shared memory for 32 values; `none` is the
/// neutral element.
template <class T>
__device__ __forceinline__ SumOfExp<T> block_sum_of_exp(SumOfExp<T> total, const SumOfExp<T>& none,
                                                        SumOfExp<T>* warps) {
    const auto over_warp = [&] {
        SIMT_UNROLL
        for (int lanes = 16; lanes > 0; lanes /= 2)
            total.add(SumOfExp<T>{__shfl_xor_sync(kAllLanes, total.maximum, lanes),
                                  __shfl_xor_sync(kAllLanes, total.sum, lanes)});
    };
    over_warp();
    if (threadIdx.x % kWarpSize == 0) warps[threadIdx.x / kWarpSize] = total;
    __syncthreads();
    const unsigned lane = threadIdx.x % kWarpSize;
    total = lane < blockDim.x / kWarpSize ? warps[lane] : none;
    over_warp();
    return total;
}

/// losses[n] = -log softmax(logits[n])[targets[n]]. With `gradient`: gradient[n] = scale (softmax - one_hot), where
/// scale is loss_factor times the step's loss scale, read here (absent: 1). A row with a negative target has neither; a
/// target outside the vocabulary makes its loss NaN. T is the dtype of the products that read the gradient; `gradient`
/// may be `logits`. `vocabulary` must be a multiple of N, and rows must be aligned to N elements.
template <class T, int N>
__global__ void __launch_bounds__(kCrossEntropyThreads)
    cross_entropy_kernel(Accumulator<T>* losses, T* gradient, const Accumulator<T>* logits, const int32_t* targets,
                         int32_t vocabulary, double loss_factor, const ops::StepScalars* scalars) {
    using A = Accumulator<T>;
    SIMT_SHARED(SumOfExp<T>, warps, [kWarpSize]);
    const int64_t row = blockIdx.x;
    const int32_t target = targets[row], packs = vocabulary / N, threads = static_cast<int32_t>(blockDim.x);
    const A* in = logits + row * vocabulary;
    T* out = gradient == nullptr ? nullptr : gradient + row * vocabulary;
    if (target < 0) {  // the same for the whole block
        if (threadIdx.x == 0) losses[row] = 0;
        const A zeros[N] = {};
        if (out == nullptr) return;
        for (int32_t p = static_cast<int32_t>(threadIdx.x); p < packs; p += threads) store(out + int64_t{p} * N, zeros);
        return;
    }
    const A lowest = static_cast<A>(-1e38);  // not -inf: exp(-inf + inf) is NaN; and times log2(e) it must stay finite
    const A target_logit = target < vocabulary ? in[target] : static_cast<A>(NAN);
    const SumOfExp<T> none{lowest, 0};
    SumOfExp<T> total = none;
    SIMT_UNROLL_BY(4)
    for (int32_t p = static_cast<int32_t>(threadIdx.x); p < packs; p += threads) {
        A x[N];
        load(x, in + int64_t{p} * N);
        total.add(x);
    }
    total = block_sum_of_exp(total, none, warps);
    if (threadIdx.x == 0) losses[row] = log_of(total.sum) + (total.maximum - target_logit);
    if (out == nullptr) return;
    const A scale = static_cast<A>(loss_factor * (scalars == nullptr ? 1.0 : scalars->loss_scale));
    const A factor = scale / total.sum;
    const int32_t rounds = (packs - 1 - static_cast<int32_t>(threadIdx.x) + threads) / threads;
    SIMT_UNROLL_BY(4)
    for (int32_t p = static_cast<int32_t>(threadIdx.x) + (rounds - 1) * threads; p >= 0; p -= threads) {
        A x[N];
        load(x, in + int64_t{p} * N);
        SIMT_UNROLL
        for (int j = 0; j < N; ++j)
            x[j] = exp_shifted<T>(x[j], total.maximum) * factor - (p * N + j == target ? scale : A(0));
        store(out + int64_t{p} * N, x);
    }
}

}  // namespace ballast::cuda
