// What a loss <d_out, O> changes by when one entry of the score matrix is hidden and its row renormalised: by doing
// just that, in double, one entry after the other.
#pragma once

#include "tests/kernels/reference/attention.h"

namespace ballast::test {

/// [B,H,T,S]; 0 where the entry is hidden anyway. Logits as reference_attention() gives them.
inline Values reference_influence(const AttentionCase& x, const Values& logits) {
    Values change(logits.size(), 0.0);
    // d_out . O of row (b, h, t) without key `hidden`.
    const auto loss = [&](int64_t b, int64_t h, int64_t t, int64_t hidden) {
        const double* row = &logits[static_cast<size_t>(((b * x.H + h) * x.T + t) * x.S)];
        double maximum = x.z(h), total = 0, sum = 0;
        for (int64_t c = 0; c < x.S; ++c)
            if (c != hidden) maximum = std::max(maximum, row[c]);
        if (std::isinf(maximum)) return 0.0;
        total = std::exp(x.z(h) - maximum);
        for (int64_t c = 0; c < x.S; ++c) {
            if (c == hidden) continue;
            const double weight = std::exp(row[c] - maximum);
            total += weight;
            for (int64_t d = 0; d < x.D; ++d) sum += weight * x.d_out[x.q_at(b, t, h, d)] * x.v[x.k_at(b, c, h, d)];
        }
        return sum / total;
    };
    for (int64_t b = 0; b < x.B; ++b)
        for (int64_t h = 0; h < x.H; ++h)
            for (int64_t t = 0; t < x.T; ++t) {
                const double before = loss(b, h, t, -1);
                for (int64_t c = 0; c < x.S; ++c)
                    if (x.visible(b, h, t, c))
                        change[static_cast<size_t>(((b * x.H + h) * x.T + t) * x.S + c)] = loss(b, h, t, c) - before;
            }
    return change;
}

/// [B,H,M]: summed over queries, what a loss <d_out, O> changes by when a query's keys at positions >= sinks and
/// distances
/// >= m block are hidden together and its row is renormalised; m = 1 … M.
inline Values reference_span_effect(const AttentionCase& x, const Values& logits, int64_t block, int64_t sinks,
                                    int64_t M) {
    Values effect(static_cast<size_t>(x.B * x.H * M), 0.0);
    for (int64_t b = 0; b < x.B; ++b)
        for (int64_t h = 0; h < x.H; ++h)
            for (int64_t t = 0; t < x.T; ++t) {
                const double* row = &logits[static_cast<size_t>(((b * x.H + h) * x.T + t) * x.S)];
                // d_out . O of the row with keys at distances below `reach`; < 0: all.
                const auto loss = [&](int64_t reach) {
                    double maximum = x.z(h), sum = 0;
                    const auto shown = [&](int64_t c) {
                        return x.visible(b, h, t, c) &&
                               (reach < 0 || x.key_position(c) < sinks || x.position(b, t) - x.key_position(c) < reach);
                    };
                    for (int64_t c = 0; c < x.S; ++c)
                        if (shown(c)) maximum = std::max(maximum, row[c]);
                    if (std::isinf(maximum)) return 0.0;
                    double total = std::exp(x.z(h) - maximum);
                    for (int64_t c = 0; c < x.S; ++c) {
                        if (!shown(c)) continue;
                        const double weight = std::exp(row[c] - maximum);
                        total += weight;
                        for (int64_t d = 0; d < x.D; ++d)
                            sum += weight * x.d_out[x.q_at(b, t, h, d)] * x.v[x.k_at(b, c, h, d)];
                    }
                    return sum / total;
                };
                for (int64_t m = 1; m <= M; ++m)
                    effect[static_cast<size_t>((b * x.H + h) * M + m - 1)] += loss(m * block) - loss(-1);
            }
    return effect;
}

/// Sums of f(value) over block x block tiles of [B,H,T,S].
template <class F>
Values tile_sums(const AttentionCase& x, const Values& values, int64_t block, F f) {
    const int64_t I = (x.T + block - 1) / block, J = (x.S + block - 1) / block;
    Values sums(static_cast<size_t>(x.B * x.H * I * J), 0.0);
    for (int64_t bh = 0; bh < x.B * x.H; ++bh)
        for (int64_t t = 0; t < x.T; ++t)
            for (int64_t c = 0; c < x.S; ++c)
                sums[static_cast<size_t>((bh * I + t / block) * J + c / block)] +=
                    f(values[static_cast<size_t>((bh * x.T + t) * x.S + c)]);
    return sums;
}

}  // namespace ballast::test
