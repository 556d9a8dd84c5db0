// A model whose attention is computed on the host, in double, by a test: for policies that no mask says in advance.
#pragma once

#include <functional>

#include "model/rope_rows.h"
#include "tests/infer/cached_losses.h"

namespace ballast::test {

/// One layer's queries, keys and values before they are rotated, and what attention makes of them.
struct HostAttention {
    const model::ModelConfig& config;
    int64_t layer, T, H, G, D;
    std::vector<double> q, k, v, out;  // [T,H,D], [T,G,D], [T,G,D], [T,H,D]
    std::vector<double> sink_logit, slope;
    model::RopeFrequencies frequencies;
    double scale;

    /// x rotated the NeoX way, as far as the model rotates.
    std::vector<double> rotated(const double* x, int64_t position) const {
        std::vector<double> y(x, x + D);
        const size_t half = frequencies.inverse.size();
        for (size_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(position) * frequencies.inverse[i];
            const double a = frequencies.attention_factor, c = a * std::cos(angle), s = a * std::sin(angle);
            y[i] = x[i] * c - x[i + half] * s;
            y[i + half] = x[i + half] * c + x[i] * s;
        }
        return y;
    }
    const double* query(int64_t i, int64_t h) const { return &q[static_cast<size_t>((i * H + h) * D)]; }
    const double* key(int64_t j, int64_t g) const { return &k[static_cast<size_t>((j * G + g) * D)]; }
    /// The logit of query i at place `at` and key j at place `stands`.
    double logit(int64_t i, int64_t at, int64_t h, int64_t j, int64_t stands) const {
        const auto a = rotated(query(i, h), at), b = rotated(key(j, h / (H / G)), stands);
        double dot = 0;
        for (size_t d = 0; d < a.size(); ++d) dot += a[d] * b[d];
        return scale * dot - (slope.empty() ? 0 : slope[static_cast<size_t>(h)] * static_cast<double>(at - stands));
    }
    /// Attention of query i of head h over keys with these logits: writes out, returns the weights.
    std::vector<double> attend(int64_t i, int64_t h, const std::vector<int64_t>& keys,
                               const std::vector<double>& logits) {
        const double z = sink_logit_value(config.normaliser, sink_logit.data(), static_cast<int>(h));
        double total = std::exp(z);
        for (const double logit : logits) total += std::exp(logit);
        std::vector<double> weights;
        double* to = &out[static_cast<size_t>((i * H + h) * D)];
        for (size_t n = 0; n < keys.size(); ++n) {
            weights.push_back(std::exp(logits[n]) / total);
            for (int64_t d = 0; d < D; ++d)
                to[d] += weights[n] * v[static_cast<size_t>((keys[n] * G + h / (H / G)) * D + d)];
        }
        return weights;
    }
};

inline void from_host(const Context& context, const Tensor& to, const std::vector<double>& values) {
    if (to.dtype == Dtype::f64) return context.copy_from_host(to, values.data());
    const std::vector<float> narrow(values.begin(), values.end());
    context.copy_from_host(to, narrow.data());
}

/// Every token's loss, in f64 or f32, with attention as `attend` fills it in.
inline std::vector<double> losses_by_host(Context& context, model::Transformer& model, const ScoredText& s,
                                          const std::function<void(HostAttention&)>& attend) {
    const auto& config = model.config();
    const auto T = std::ssize(s.tokens);
    model.positions().ensure(context, T);
    const DeviceBuffer buffer =
        context.allocate(model::Pass::activation_bytes(config, model.dtype(), model::PassKind::forward, 1, T));
    context.scratch().reserve(
        model::Pass::scratch_bytes(context, config, model.dtype(), model::PassKind::forward, 1, T));
    Arena arena(buffer.data(), buffer.bytes());
    model::Activations a(arena, config, model.dtype(), model::PassKind::forward, 1, T);
    context.copy_from_host(a.ids, s.tokens.data());
    context.copy_from_host(a.targets, s.targets.data());
    model.forward_layers(context, a, [&](int64_t l, const Tensor& qkv, const model::LayerActivations& layer) {
        ops::qkv_split_rope_forward(context, layer.q, layer.k, layer.v, qkv, Tensor{}, {}, model.qkv_layout());
        const auto params = model.attention(l);
        const auto values = [&](const Tensor& x) { return x.empty() ? std::vector<double>{} : to_host(context, x); };
        HostAttention host{config,
                           l,
                           T,
                           config.num_heads,
                           config.key_value_heads(),
                           config.head_dim(),
                           to_host(context, layer.q),
                           to_host(context, layer.k),
                           to_host(context, layer.v),
                           std::vector<double>(static_cast<size_t>(T * config.attention_dim()), 0.0),
                           values(params.sink_logit_H),
                           values(params.alibi_slope_H),
                           {},
                           params.scale};
        if (config.rotary_dims() > 0)
            host.frequencies = model::rope_frequencies(config, config.max_position_embeddings);
        attend(host);
        from_host(context, layer.attention_out, host.out);
    });
    model.head_losses(context, a.losses, a.final_out, a.targets);
    return to_host(context, a.losses);
}

}  // namespace ballast::test
