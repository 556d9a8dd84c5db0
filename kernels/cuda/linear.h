// Shared by linear layers and linear_cross_entropy: products by rows of the weight, and weights narrower than x.
#pragma once

#include "kernels/cuda/ops.h"

namespace ballast::cuda {

/// linear_forward under Products::by_row.
void linear_by_row(Context&, const Tensor& out, const Tensor& x, const LinearWeight& weight);

/// Dequantises an i8 weight: out x [O,I] = scale times weight.
void dequantise(Context&, const Tensor& out, const LinearWeight& weight);

/// The weight in x's dtype: the weight itself, or a converted copy in `memory`, which holds weight_bytes() for its
/// elements.
Tensor converted_weight(Context&, const LinearWeight& weight, Dtype x, void* memory);
size_t weight_bytes(Dtype x, Dtype weight, int64_t elements);

}  // namespace ballast::cuda
