// Matrix products of the CPU kernels, cut into tasks by shape alone.
#pragma once

#include "kernels/context.h"

namespace ballast::cpu {

/// A matrix in the accumulation dtype; element (i, j) is at i * row + j * column, one of which is 1.
struct Matrix {
    const void* data;
    int64_t row, column;
};

/// C[m × n] = (or +=) A[m × k] B[k × n] (+ bias[n] on every row, only when not accumulating). `dtype` is f32 or f64, for
/// everything. C is row-major with row stride n. The k products of an element are never shared out, so bits do not
/// depend on the number of threads.
struct GemmArguments {
    Dtype dtype;
    int64_t m, n, k;
    Matrix a, b;
    void* c;
    bool accumulate = false;
    const void* bias = nullptr;
};

/// Chooses: Gemm::automatic with f32 goes to oneDNN, all else to gemm_reference.
void gemm(Context&, const GemmArguments&);

/// Ours: every element is one chain of fused multiply-adds in the order of k, starting from C, the bias or 0. The same
/// bits on every processor.
void gemm_reference(Context&, const GemmArguments&);

}  // namespace ballast::cpu
