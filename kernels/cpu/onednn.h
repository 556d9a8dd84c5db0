// oneDNN behind a few functions, on the calling thread alone. onednn.cpp is the only file that includes its headers.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"

namespace ballast::cpu {

/// One product with any dtypes oneDNN knows: A and B (f32 or bf16) with strides of rows and columns, C (f32, bf16) with
/// rows c_row apart, an optional bias[n] of A's dtype. Primitives are made once per shape and thread.
struct MatmulShape {
    Dtype dtype, c_dtype;
    int64_t m, n, k, a_row, a_column, b_row, b_column, c_row;
    bool accumulate, bias;

    bool operator==(const MatmulShape&) const = default;
};
void onednn_matmul(const MatmulShape& shape, const void* a, const void* b, const void* bias, void* c);

/// The same in f32 without bias, by the library's sgemm: no primitive is made. One of each operand's strides is 1.
void onednn_sgemm(const MatmulShape& shape, const float* a, const float* b, float* c);

/// The units on which oneDNN multiplies bf16 matrices faster than f32 ones, if the operating system enables them. AMX
/// tiles are faster. AVX512-BF16's dot products are faster on AMD's processors (Zen 4: twice the f32 rate); on Intel's
/// they run at half the f32 rate.
enum class Bf16Units { none, amx, avx512_bf16 };
Bf16Units onednn_bf16_units();

/// "2.6.3": the version of the loaded library (not of the headers).
std::string onednn_version();

}  // namespace ballast::cpu
