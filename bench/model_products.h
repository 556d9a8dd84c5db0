// The matrix products of a training step, and how fast the best library at hand does them on this CPU: what the step is
// held against there.
#pragma once

#include <string>
#include <vector>

#include "kernels/context.h"
#include "model/config.h"

namespace ballast::bench {

/// out [N,O] = x [N,I] weight [O,I]^T, or one of its gradients, `count` times a step.
struct ModelProduct {
    enum class Kind { forward, d_x, d_weight };
    std::string layer;  // "query_key_value", …
    Kind kind;
    int64_t rows, outputs, inputs, count;

    double flops() const { return 2.0 * static_cast<double>(rows * outputs * inputs); }
};
std::vector<ModelProduct> products_of_step(const model::ModelConfig& config, int64_t rows);

struct MeasuredProduct {
    ModelProduct product;
    std::string library;  // the fastest
    double seconds = 0;
};
/// Every product alone on all threads, by every library there is: oneDNN on its own threads, OpenBLAS (f32, where
/// libopenblas.so.0 is found) and the step's own way. bf16 where the step multiplies in bf16, else f32.
std::vector<MeasuredProduct> measure_products(Context& context, const std::vector<ModelProduct>& products, Dtype dtype);

/// FLOP/s over all of them, each as often as a step needs it.
double weighted_rate(const std::vector<MeasuredProduct>& measured);

}  // namespace ballast::bench
