// The matrix products of a training pass, by shape. Benchmarks time them and the cost model counts them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace ballast::model {

/// out [N,O] = x [N,I] weight [O,I]^T, or one of its gradients, `count` times per pass.
struct Product {
    enum class Kind { forward, d_x, d_weight };
    std::string layer;  // "query_key_value", …
    Kind kind;
    int64_t rows, outputs, inputs, count;

    double flops() const { return 2.0 * static_cast<double>(rows * outputs * inputs); }
};

/// The products of one layer, forward and backward.
std::vector<Product> products_of_layer(const ModelConfig& config, int64_t rows);
/// The products of the head.
std::vector<Product> products_of_head(const ModelConfig& config, int64_t rows);
/// The products of all layers and the head.
std::vector<Product> products_of_pass(const ModelConfig& config, int64_t rows);

}  // namespace ballast::model
