// Products that read each row of the weight once, as it is stored, for all rows of x.
#pragma once

#include "kernels/cpu/ops.h"
#include "kernels/gemm.h"

namespace ballast::cpu {

/// The product that `g` describes, up to its B, which is `weight`: f32, bf16 or i8 for an f32 product, f64 for one in
/// f64. The k products of an element are added in one order that depends on k alone.
void product_by_row(Context&, const GemmArguments& g, const LinearWeight& weight);

/// out f32, bf16 [O,I] = the numbers that `weight`, i8, stands for.
void dequantise(Context&, const Tensor& out, const LinearWeight& weight);

}  // namespace ballast::cpu
