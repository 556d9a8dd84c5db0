// Matrix products of the CPU kernels, cut into tasks by shape alone.
#pragma once

#include "kernels/context.h"

namespace ballast::cpu {

/// Element (i, j) of a matrix is at i * row + j * column; one of the two strides is 1.
struct Matrix {
    const void* data;
    int64_t row, column;
};

/// C[m × n] = (or +=) A[m × k] B[k × n] (+ bias[n] on every row, only when not accumulating). C is row-major, its rows n
/// elements apart. A, B and bias have `dtype`: f32, f64, or bf16 where native_bf16(). C is in the accumulation dtype, or
/// bf16 like A and B when `narrow_c`. The k products of an element are never shared out between tasks, so bits do not
/// depend on the number of threads.
struct GemmArguments {
    Dtype dtype;
    int64_t m, n, k;
    Matrix a, b;
    void* c;
    bool accumulate = false;
    const void* bias = nullptr;
    bool narrow_c = false;
};

/// True when bf16 products should be computed as such: Gemm::automatic on a processor with AMX-BF16. Elsewhere operands
/// are widened to f32 first (AVX512-BF16's dot products run at half the rate of f32).
bool native_bf16(const Context&);

/// oneDNN for f32 and bf16 under Gemm::automatic, gemm_reference for all else.
void gemm(Context&, const GemmArguments&);

/// Ours, f32 and f64: every element is one chain of fused multiply-adds in the order of k, starting from C, the bias or
/// 0. The same bits on every processor.
void gemm_reference(Context&, const GemmArguments&);

}  // namespace ballast::cpu
