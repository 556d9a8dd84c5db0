// Attention in plain double loops over the whole score matrix: forward, backward and weights, written from the formulas
// in kernels/attention_variant.h and the mask in kernels/ops.h, on purpose unlike the kernels.
#pragma once

#include "tests/kernels/support.h"

namespace ballast::test {

struct AttentionCase {
    int64_t B = 1, T = 1, S = 1, H = 1, G = 1, D = 1;
    double scale = 1;
    Normaliser normaliser = Normaliser::softmax;
    Values sink_logit = {};          // [H]
    Values alibi = {};               // [H] or none
    std::vector<int32_t> span = {};  // [H] or none
    std::vector<int32_t> query_position = {}, first_key = {};  // [B,T] or none
    std::vector<int64_t> key_positions = {};  // [S] or none: key rows in any order
    int64_t sinks = 0, query_start = 0, key_start = 0, sink_query_position = INT64_MAX;
    bool has_sink_query = false;
    Values q = {}, k = {}, v = {}, sink_query = {}, d_out = {};

    int64_t key_position(int64_t c) const {
        if (!key_positions.empty()) return key_positions[static_cast<size_t>(c)];
        return c < sinks ? c : key_start + (c - sinks);
    }
    int64_t position(int64_t b, int64_t t) const {
        return query_position.empty() ? query_start + t : query_position[static_cast<size_t>(b * T + t)];
    }
    int64_t first(int64_t b, int64_t t) const {
        return first_key.empty() ? 0 : first_key[static_cast<size_t>(b * T + t)];
    }
    bool visible(int64_t b, int64_t h, int64_t t, int64_t c) const {
        const int64_t i = position(b, t), j = key_position(c);
        const int64_t limit = span.empty() ? -1 : span[static_cast<size_t>(h)];
        return j <= i && first(b, t) <= i && (j < sinks || (j >= first(b, t) && (limit < 0 || i - j <= limit)));
    }
    double z(int64_t h) const {
        return sink_logit_value<double>(normaliser, sink_logit.data(), static_cast<int>(h));
    }
    size_t q_at(int64_t b, int64_t t, int64_t h, int64_t d) const { return static_cast<size_t>(((b * T + t) * H + h) * D + d); }
    size_t k_at(int64_t b, int64_t c, int64_t h, int64_t d) const {
        return static_cast<size_t>(((b * S + c) * G + h / (H / G)) * D + d);
    }
    bool uses_sink_query(int64_t c) const { return has_sink_query && key_position(c) < sinks; }

    double logit(int64_t b, int64_t h, int64_t t, int64_t c) const {
        const Values& query = uses_sink_query(c) ? sink_query : q;
        double sum = 0;
        for (int64_t d = 0; d < D; ++d) sum += query[q_at(b, t, h, d)] * k[k_at(b, c, h, d)];
        sum *= scale;
        if (alibi.empty()) return sum;
        const int64_t i = position(b, t), j = key_position(c);
        return sum - alibi[static_cast<size_t>(h)] * static_cast<double>((j < sinks ? std::min(i, sink_query_position) : i) - j);
    }
};

struct AttentionResult {
    Values out, lse, weights, logits;                    // weights, logits [B,H,T,S]; -inf: hidden
    Values d_q, d_k, d_v, d_sink_query, d_sink_logit;
};

/// `precision` rounds every intermediate and result: what a naive computation in that dtype gives. f64 is the oracle.
inline AttentionResult reference_attention(const AttentionCase& x, Dtype precision = Dtype::f64) {
    AttentionResult r;
    const auto low = [&](double value) { return rounded(precision, value); };
    const auto zeros = [](int64_t n) { return Values(static_cast<size_t>(n), 0.0); };
    r.out = r.d_q = r.d_sink_query = zeros(x.B * x.T * x.H * x.D);
    r.d_k = r.d_v = zeros(x.B * x.S * x.G * x.D);
    r.lse = zeros(x.B * x.H * x.T);
    r.weights = zeros(x.B * x.H * x.T * x.S);
    r.logits = Values(r.weights.size(), -std::numeric_limits<double>::infinity());
    r.d_sink_logit = zeros(x.H);
    Values p(static_cast<size_t>(x.S));
    for (int64_t b = 0; b < x.B; ++b)
        for (int64_t h = 0; h < x.H; ++h)
            for (int64_t t = 0; t < x.T; ++t) {
                const double z = x.z(h);
                double maximum = z;
                for (int64_t c = 0; c < x.S; ++c) {
                    if (!x.visible(b, h, t, c)) continue;
                    const double logit = low(x.logit(b, h, t, c));
                    r.logits[static_cast<size_t>(((b * x.H + h) * x.T + t) * x.S + c)] = logit;
                    maximum = std::max(maximum, p[static_cast<size_t>(c)] = logit);
                }
                const bool nothing = std::isinf(maximum);
                double total = nothing ? 0 : std::exp(z - maximum);
                for (int64_t c = 0; c < x.S; ++c)
                    if (x.visible(b, h, t, c)) total += std::exp(p[static_cast<size_t>(c)] - maximum);
                const double lse = nothing ? z : maximum + std::log(total);
                const int64_t row = (b * x.H + h) * x.T + t;
                r.lse[static_cast<size_t>(row)] = lse;
                for (int64_t c = 0; c < x.S; ++c) {
                    auto& weight = p[static_cast<size_t>(c)];
                    weight = x.visible(b, h, t, c) ? low(std::exp(weight - lse)) : 0;
                    r.weights[static_cast<size_t>(row * x.S + c)] = weight;
                    for (int64_t d = 0; d < x.D; ++d) r.out[x.q_at(b, t, h, d)] += weight * x.v[x.k_at(b, c, h, d)];
                }
                for (int64_t d = 0; d < x.D; ++d) r.out[x.q_at(b, t, h, d)] = low(r.out[x.q_at(b, t, h, d)]);
                if (x.d_out.empty()) continue;
                double delta = 0;
                for (int64_t d = 0; d < x.D; ++d) delta += x.d_out[x.q_at(b, t, h, d)] * r.out[x.q_at(b, t, h, d)];
                if (!nothing) r.d_sink_logit[static_cast<size_t>(h)] -= std::exp(z - lse) * delta;
                for (int64_t c = 0; c < x.S; ++c) {
                    const double weight = p[static_cast<size_t>(c)];
                    double d_p = 0;
                    for (int64_t d = 0; d < x.D; ++d) d_p += x.d_out[x.q_at(b, t, h, d)] * x.v[x.k_at(b, c, h, d)];
                    const double d_s = low(x.scale * weight * (low(d_p) - delta));
                    const bool sink = x.uses_sink_query(c);
                    for (int64_t d = 0; d < x.D; ++d) {
                        const size_t at_q = x.q_at(b, t, h, d), at_k = x.k_at(b, c, h, d);
                        r.d_v[at_k] += weight * x.d_out[at_q];
                        r.d_k[at_k] += d_s * (sink ? x.sink_query : x.q)[at_q];
                        (sink ? r.d_sink_query : r.d_q)[at_q] += d_s * x.k[at_k];
                    }
                }
            }
    for (Values* gradient : {&r.d_q, &r.d_k, &r.d_v, &r.d_sink_query}) *gradient = rounded(precision, *gradient);
    return r;
}

}  // namespace ballast::test
