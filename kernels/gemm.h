// The description of a matrix product, the same for every backend.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace ballast {

/// Element (i, j) of a matrix is at i * row + j * column; one of the two strides is 1.
struct Matrix {
    const void* data;
    int64_t row, column;
};

/// The function applied to an element s of the product before it is stored. With gelu the bias is added to the finished
/// sum.
enum class Epilogue {
    none,         ///< C = s
    gelu_tanh,    ///< aux = u = s + bias, C = gelu(u): u rounded to aux's dtype, before or after gelu, as suits the
                  ///< device
    gelu_erf,     ///< the same with the other gelu (kernels/ops.h)
    d_gelu_tanh,  ///< C = s gelu'(aux)
    d_gelu_erf,
};
constexpr bool is_gelu(Epilogue e) { return e == Epilogue::gelu_tanh || e == Epilogue::gelu_erf; }

/// C[m × n] = (or +=) A[m × k] B[k × n] (+ bias[n] on every row, only when not accumulating). C is row-major; its rows
/// are n elements apart. A, B and bias have `dtype`. C is in the accumulation dtype, or in `dtype` when `narrow_c`. The
/// k products of one element are never divided among threads, so bits do not depend on the number of threads.
struct GemmArguments {
    Dtype dtype;
    int64_t m, n, k;
    Matrix a, b;
    void* c;
    bool accumulate = false;
    const void* bias = nullptr;
    bool narrow_c = false;
    Epilogue epilogue = Epilogue::none;  // only when not accumulating
    void* aux = nullptr;                 // [m × n] like C, in aux_dtype; d_gelu reads it, gelu writes it
    Dtype aux_dtype = Dtype::f32;
};

}  // namespace ballast
