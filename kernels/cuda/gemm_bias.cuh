// Adds a bias to the rows of a finished product when the library's epilogue does not: for an f32 result of 16-bit
// operands, and for shapes without an algorithm with bias. C[i][j] += bias[j]; reads and writes C once. Launch map: one
// thread per column; blocks of rows in gridDim.y, each with a stride over the remaining rows.
#pragma once

#include <algorithm>

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

inline constexpr int kBiasThreads = 128;

inline dim3 bias_grid(int64_t rows, int64_t width) {
    dim3 grid = grid_of(width, kBiasThreads);
    grid.y = static_cast<unsigned>(std::min<int64_t>(rows, 1024));
    return grid;
}

/// T: the bias's type; C: the product's.
template <class T, class C>
__global__ void add_bias_kernel(C* c, const T* bias, int64_t rows, int64_t width) {
    const int64_t column = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (column >= width) return;
    const auto shift = widen(bias[column]);
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y)
        c[row * width + column] = narrow<C>(widen(c[row * width + column]) + shift);
}

}  // namespace ballast::cuda
