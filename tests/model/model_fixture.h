// Small models for tests.
#pragma once

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "model/transformer.h"
#include "tests/kernels/test_device.h"

namespace ballast::test {

/// 2 layers, 2 heads of 8 dims, 23 ids: big enough to have everything, small enough for finite differences.
inline model::ModelConfig tiny_config() {
    model::ModelConfig config;
    config.vocab_size = 23;
    config.hidden_size = 16;
    config.num_layers = 2;
    config.num_heads = 2;
    config.intermediate_size = 24;
    config.max_position_embeddings = 64;
    config.rotary_pct = 0.25;
    return config;
}

inline std::vector<int32_t> random_ids(uint32_t seed, size_t count, int64_t below) {
    std::mt19937 random(seed);
    std::vector<int32_t> ids(count);
    for (auto& id : ids) id = static_cast<int32_t>(random() % static_cast<uint32_t>(below));
    return ids;
}

/// Moves every parameter away from its special initial value (0 biases, 1 gains, 0 sink logits), so that no term of a
/// gradient vanishes by accident.
inline void randomise(Context& context, model::Weights& weights, uint32_t seed, double scale = 0.3) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, static_cast<float>(scale));
    for (const auto& row : weights.table().rows()) {
        std::vector<float> values(static_cast<size_t>(row.count));
        for (auto& x : values) x = (row.init == model::Init::one ? 1.0f : 0.0f) + normal(random);
        weights.write(context, row, values.data());
    }
    weights.refresh_compute(context);
}

inline std::vector<double> to_host(const Context& context, const Tensor& tensor) {
    const auto n = static_cast<size_t>(tensor.numel());
    std::vector<double> out(n);
    if (tensor.dtype == Dtype::f64) {
        context.copy_to_host(out.data(), tensor);
    } else {
        std::vector<float> narrow(n);
        context.copy_to_host(narrow.data(), tensor);
        out.assign(narrow.begin(), narrow.end());
    }
    return out;
}

/// ‖x - ref‖ / ‖ref‖; NaN when anything is NaN.
template <class A, class B>
double relative_error(const A& x, const B& reference) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < reference.size(); ++i) {
        const double d = static_cast<double>(x[i]) - static_cast<double>(reference[i]);
        difference += d * d;
        norm += static_cast<double>(reference[i]) * static_cast<double>(reference[i]);
    }
    return std::sqrt(difference / (norm > 0 ? norm : 1));
}

}  // namespace ballast::test
