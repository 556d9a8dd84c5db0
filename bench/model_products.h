// How fast the best library at hand does the matrix products of a training step on this CPU: what the step is held
// against there.
#pragma once

#include <string>
#include <vector>

#include "kernels/context.h"
#include "model/products.h"

namespace ballast::bench {

struct MeasuredProduct {
    model::Product product;
    std::string library;  // the fastest
    double seconds = 0;
};
/// Every product alone on all threads, by every library there is: oneDNN on its own threads, OpenBLAS (f32, where
/// libopenblas.so.0 is found) and the step's own way. bf16 where the step multiplies in bf16, else f32.
std::vector<MeasuredProduct> measure_products(Context& context, const std::vector<model::Product>& products, Dtype dtype);

/// FLOP/s over all of them, each as often as a step needs it.
double weighted_rate(const std::vector<MeasuredProduct>& measured);

}  // namespace ballast::bench
