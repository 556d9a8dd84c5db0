// A matrix product, as every backend is asked for it.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace ballast {

/// Element (i, j) of a matrix is at i * row + j * column; one of the two strides is 1.
struct Matrix {
    const void* data;
    int64_t row, column;
};

/// C[m × n] = (or +=) A[m × k] B[k × n] (+ bias[n] on every row, only when not accumulating). C is row-major, its rows
/// n elements apart. A, B and bias have `dtype`; C is in the accumulation dtype, or like A and B when `narrow_c`. The k
/// products of an element are never shared out, so bits do not depend on the number of threads.
struct GemmArguments {
    Dtype dtype;
    int64_t m, n, k;
    Matrix a, b;
    void* c;
    bool accumulate = false;
    const void* bias = nullptr;
    bool narrow_c = false;
};

}  // namespace ballast
