#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

/// 1 / (1 + e^-z). e^-z may become infinite in f32, and the result then 0, as it should.
template <class A>
__device__ __forceinline__ A sigmoid(A z) {
    return A(1) / (A(1) + exp_of(-z));
}

}  // namespace ballast::cuda
