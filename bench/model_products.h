// The speed of the matrix products of a training step with the fastest available library on this CPU. Training steps
// are compared with it.
#pragma once

#include <string>
#include <vector>

#include "kernels/context.h"
#include "model/products.h"

namespace ballast::bench {

struct MeasuredProduct {
    model::Product product;
    std::string library;  // the fastest library
    double seconds = 0;
};
/// Times every product alone, on all threads, with every available library: oneDNN with its own threads, OpenBLAS (f32,
/// where libopenblas.so.0 is found) and the step's own method. Uses bf16 where the step multiplies in bf16, else f32.
std::vector<MeasuredProduct> measure_products(Context& context, const std::vector<model::Product>& products, Dtype dtype);

/// FLOP/s over all products, each weighted by its count in a step.
double weighted_rate(const std::vector<MeasuredProduct>& measured);

}  // namespace ballast::bench
