// The matrix products of a training pass, by shape: what benchmarks time and what the cost model counts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"

namespace ballast::model {

/// out [N,O] = x [N,I] weight [O,I]^T, or one of its gradients, `count` times a pass.
struct Product {
    enum class Kind { forward, d_x, d_weight };
    std::string layer;  // "query_key_value", …
    Kind kind;
    int64_t rows, outputs, inputs, count;

    double flops() const { return 2.0 * static_cast<double>(rows * outputs * inputs); }
};

/// Of a layer, forward and backward, each once.
std::vector<Product> products_of_layer(const ModelConfig& config, int64_t rows);
/// Of the head.
std::vector<Product> products_of_head(const ModelConfig& config, int64_t rows);
/// Of all layers and the head.
std::vector<Product> products_of_pass(const ModelConfig& config, int64_t rows);

}  // namespace ballast::model
