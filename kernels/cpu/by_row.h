// Products that read each row of the weight once, as it is stored, for all rows of x.
#pragma once

#include "kernels/cpu/ops.h"
#include "kernels/gemm.h"

namespace ballast::cpu {

/// The product that `g` describes, with `weight` in place of its B: f32, bf16 or i8 for an f32 product, f64 for an f64
/// product. The k products of an element are added in one order, which depends on k alone.
void product_by_row(Context&, const GemmArguments& g, const LinearWeight& weight);

/// Dequantises an i8 weight: out f32 or bf16 [O,I] = scale times weight.
void dequantise(Context&, const Tensor& out, const LinearWeight& weight);

}  // namespace ballast::cpu
