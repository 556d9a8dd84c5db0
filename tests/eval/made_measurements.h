// One measurement of each kind, made here.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "eval/measurement.h"

namespace ballast::test {

inline eval::StreamingResult cell(const eval::StreamingPolicy& policy, double perplexity = 2.5) {
    eval::StreamingResult out;
    out.policy = policy;
    out.method = "masked";
    out.tokens = 8;
    out.of_tokens = 9;
    out.non_finite = std::isfinite(perplexity) ? 0 : 3;
    out.loss = std::log(perplexity);
    out.perplexity = perplexity;
    out.seconds = 1.5;
    out.density = 0.375;
    out.kv_bytes = 4096;
    if (std::holds_alternative<eval::Mixture>(policy)) out.plan = "plan";
    out.curve = {{0, 4, out.loss}, {4, 4, 1.25}};
    return out;
}

inline eval::SinkResult sinks() {
    eval::SinkResult out;
    out.length = 16, out.sequences = 3, out.positions = 2, out.layers = 2, out.heads = 3;
    out.epsilon = 0.3;
    out.sink_rate = {0.5, std::nan("")};
    for (int i = 0; i < 12; ++i) out.alpha.push_back(0.01 * i);
    out.share = {0.1, 0.2, 0.3, 0.4};
    out.share_std = {0.01, 0.02, 0.03, std::numeric_limits<double>::infinity()};
    out.logit_first = {1, 2, 3, 4, 5, 6};
    out.logit_rest = {-1, -2, -3, -4, -5, std::nan("")};
    out.whole_sentences = 2;
    return out;
}

inline eval::LastQueryResult last_query(int64_t length = 4096) { return {length, 5, 2, 3, {0.5, 0.25, 0.75, 0.1, 0.2, 0.6}}; }

inline eval::EncoderSinkResult encoder_sinks() {
    eval::EncoderSinkResult out;
    out.length = 16, out.sequences = 3, out.layers = 2, out.heads = 2;
    out.share = {std::vector{0.5, 0.4, 0.3, 0.2}, std::vector{0.1, 0.2, 0.3, 0.4}, std::vector{0.4, 0.4, 0.4, 0.4}};
    return out;
}

inline eval::OutlierResult outliers() {
    eval::OutlierResult out;
    out.length = 64, out.sequences = 3, out.tokens = 189, out.bits = 8;
    out.loss = 1.5, out.rounded_loss = std::numeric_limits<double>::infinity();
    out.embedding = {3, 0.5}, out.head = {5, 7};
    for (int l = 0; l < 2; ++l) {
        eval::OutlierLayer& layer = out.layers.emplace_back();
        for (size_t i = 0; i < layer.tensors.size(); ++i)
            layer.tensors[i] = {10.0 * l + static_cast<double>(i), 100.0 * l + static_cast<double>(i)};
        layer.value_first = 0.25 + l, layer.value_rest = 2.5 + l;
    }
    return out;
}

}  // namespace ballast::test
