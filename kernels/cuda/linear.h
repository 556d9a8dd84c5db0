// What linear layers and linear_cross_entropy share: products by rows of the weight, and weights that are narrower than
// x.
#pragma once

#include "kernels/cuda/ops.h"

namespace ballast::cuda {

/// linear_forward under Products::by_row.
void linear_by_row(Context&, const Tensor& out, const Tensor& x, const LinearWeight& weight);

/// out x [O,I] = the numbers that `weight`, i8, stands for.
void dequantise(Context&, const Tensor& out, const LinearWeight& weight);

/// The weight in x's dtype: itself, or converted into `memory`, which holds weight_bytes() of its elements.
Tensor converted_weight(Context&, const LinearWeight& weight, Dtype x, void* memory);
size_t weight_bytes(Dtype x, Dtype weight, int64_t elements);

}  // namespace ballast::cuda
