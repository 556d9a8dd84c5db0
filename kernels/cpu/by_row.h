// Products that read each row of the weight once, as it is stored, for all rows of x.
#pragma once

#include <type_traits>

#include "kernels/cpu/common.h"
#include "kernels/cpu/ops.h"
#include "kernels/gemm.h"

namespace ballast::cpu {

/// The product that `g` describes, of x [m,k] and `weight`, which stand for its A and B: x in bf16 or f32 and f32, bf16
/// or i8 for an f32 product, f64 for an f64 product. The k products of an element are added in one order, which depends
/// on k alone. `packed`, of packed_rows_bytes(), is overwritten.
void product_by_row(Context&, const GemmArguments& g, const Tensor& x, const LinearWeight& weight, void* packed);

/// True when x and weights in bf16 are multiplied as such, by product_by_row_bf16(): Gemm::automatic on a processor
/// whose dot products of bf16 are fast.
bool takes_bf16_by_row(const Context&);
/// The product that `g`, in bf16, describes: A by rows, B a weight [n,k] as it is stored. The order of additions
/// depends on k alone. `packed`, of packed_rows_bytes(), is overwritten.
void product_by_row_bf16(Context&, const GemmArguments& g, void* packed);

/// Inputs that a sum takes in a step. Rows of packed x are filled up to whole steps.
template <class T>
inline constexpr int64_t kPackedStep = std::is_same_v<T, double> ? 16 : 32;
/// The memory that a product in `product` has x [rows, inputs] in.
inline size_t packed_rows_bytes(Dtype product, int64_t rows, int64_t inputs) {
    const int64_t step = product == Dtype::f64 ? kPackedStep<double> : kPackedStep<float>;
    return static_cast<size_t>(rows * round_up(inputs, step)) * size_of(product);
}

/// Outputs of a task: some 64 KiB of weights, which takes longer than handing the task out.
inline Blocks output_tasks(int64_t outputs, int64_t row_bytes) {
    constexpr int64_t kBytes = 64 << 10, kUnit = 4;
    return {outputs, std::max(kUnit, kBytes / std::max<int64_t>(row_bytes, 1) / kUnit * kUnit)};
}

/// Dequantises an i8 weight: out f32 or bf16 [O,I] = scale times weight.
void dequantise(Context&, const Tensor& out, const LinearWeight& weight);

}  // namespace ballast::cpu
