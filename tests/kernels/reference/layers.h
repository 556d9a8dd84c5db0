// LayerNorm, RMSNorm, linear, GELU, SiLU, rotary embedding and cross-entropy in plain double loops.
#pragma once

#include <numbers>

#include "tests/kernels/support.h"

namespace ballast::test {

struct LayerNormResult {
    Values out, mean, rstd, d_x, d_weight, d_bias;
};

/// x [N,C]. The gradients are those of sum(d_out * out), added to nothing.
inline LayerNormResult reference_layernorm(const Values& x, const Values& weight, const Values& bias, const Values& d_out,
                                           double eps) {
    const size_t C = weight.size(), N = x.size() / C;
    const double channels = static_cast<double>(C);
    LayerNormResult r{Values(N * C), Values(N), Values(N), Values(N * C), Values(C), Values(C)};
    for (size_t n = 0; n < N; ++n) {
        const double* row = &x[n * C];
        double mean = 0, variance = 0;
        for (size_t c = 0; c < C; ++c) mean += row[c] / channels;
        for (size_t c = 0; c < C; ++c) variance += (row[c] - mean) * (row[c] - mean) / channels;
        const double rstd = 1 / std::sqrt(variance + eps);
        r.mean[n] = mean;
        r.rstd[n] = rstd;
        double mean_g = 0, mean_gn = 0;
        for (size_t c = 0; c < C; ++c) {
            const double normal = (row[c] - mean) * rstd, gradient = d_out[n * C + c];
            r.out[n * C + c] = normal * weight[c] + bias[c];
            r.d_weight[c] += gradient * normal;
            r.d_bias[c] += gradient;
            mean_g += gradient * weight[c] / channels;
            mean_gn += gradient * weight[c] * normal / channels;
        }
        for (size_t c = 0; c < C; ++c)
            r.d_x[n * C + c] = rstd * (d_out[n * C + c] * weight[c] - mean_g - (row[c] - mean) * rstd * mean_gn);
    }
    return r;
}

struct RmsNormResult {
    Values out, rstd, d_x, d_weight;
};

/// The same for RMSNorm. With r = rstd, d_x = r g - x r^3 mean(g x), g = d_out weight.
inline RmsNormResult reference_rmsnorm(const Values& x, const Values& weight, const Values& d_out, double eps) {
    const size_t C = weight.size(), N = x.size() / C;
    const double channels = static_cast<double>(C);
    RmsNormResult r{Values(N * C), Values(N), Values(N * C), Values(C)};
    for (size_t n = 0; n < N; ++n) {
        double square = 0, mean_gx = 0;
        for (size_t c = 0; c < C; ++c) {
            const double value = x[n * C + c];
            square += value * value / channels;
            mean_gx += d_out[n * C + c] * weight[c] * value / channels;
        }
        const double rstd = 1 / std::sqrt(square + eps);
        r.rstd[n] = rstd;
        for (size_t c = 0; c < C; ++c) {
            const double value = x[n * C + c], gradient = d_out[n * C + c];
            r.out[n * C + c] = value * rstd * weight[c];
            r.d_weight[c] += gradient * value * rstd;
            r.d_x[n * C + c] = rstd * gradient * weight[c] - value * rstd * rstd * rstd * mean_gx;
        }
    }
    return r;
}

/// a [M,K] (or its transpose stored) times b [K,N] (or its transpose stored).
inline Values reference_matmul(const Values& a, bool a_transposed, const Values& b, bool b_transposed, int64_t M, int64_t N,
                               int64_t K) {
    Values c(static_cast<size_t>(M * N));
    for (int64_t m = 0; m < M; ++m)
        for (int64_t k = 0; k < K; ++k) {
            const double x = a[static_cast<size_t>(a_transposed ? k * M + m : m * K + k)];
            for (int64_t n = 0; n < N; ++n)
                c[static_cast<size_t>(m * N + n)] += x * b[static_cast<size_t>(b_transposed ? n * K + k : k * N + n)];
        }
    return c;
}

inline double reference_gelu(double u, ops::Gelu kind) {
    if (kind == ops::Gelu::erf) return 0.5 * u * std::erfc(-u / std::numbers::sqrt2);
    return 0.5 * u * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (u + 0.044715 * u * u * u)));
}

/// d gelu / du.
inline double reference_gelu_slope(double u, ops::Gelu kind) {
    if (kind == ops::Gelu::erf)
        return 0.5 * std::erfc(-u / std::numbers::sqrt2) + u * std::exp(-u * u / 2) / std::sqrt(2 * std::numbers::pi);
    const double c = std::sqrt(2 / std::numbers::pi), t = std::tanh(c * (u + 0.044715 * u * u * u));
    return 0.5 * (1 + t) + 0.5 * u * (1 - t * t) * c * (1 + 3 * 0.044715 * u * u);
}

inline double reference_silu(double z) { return z / (1 + std::exp(-z)); }

/// d silu / dz.
inline double reference_silu_slope(double z) {
    const double s = 1 / (1 + std::exp(-z));
    return s + z * s * (1 - s);
}

/// One head vector rotated at `position`, first R dims, NeoX's halves.
inline Values reference_rope(const Values& z, int64_t R, int64_t position, double base, double attention_factor = 1) {
    Values out = z;
    for (int64_t i = 0; i < R / 2; ++i) {
        const double angle = static_cast<double>(position) * std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(R));
        const auto low = static_cast<size_t>(i), high = static_cast<size_t>(i + R / 2);
        out[low] = attention_factor * (z[low] * std::cos(angle) - z[high] * std::sin(angle));
        out[high] = attention_factor * (z[high] * std::cos(angle) + z[low] * std::sin(angle));
    }
    return out;
}

struct CrossEntropyResult {
    Values losses, d_x, d_weight;
};

/// x [N,C], weight [V,C]; gradients of loss_scale * sum of the losses. The gradient of the logits is rounded to
/// `products`, the dtype a mixed-precision computation multiplies in.
inline CrossEntropyResult reference_cross_entropy(const Values& x, const Values& weight, const std::vector<int32_t>& targets,
                                                  int64_t C, double loss_scale, Dtype products = Dtype::f64) {
    const int64_t N = static_cast<int64_t>(targets.size()), V = static_cast<int64_t>(weight.size()) / C;
    Values logits = reference_matmul(x, false, weight, true, N, V, C);
    CrossEntropyResult r{Values(static_cast<size_t>(N)), {}, {}};
    for (int64_t n = 0; n < N; ++n) {
        double* row = &logits[static_cast<size_t>(n * V)];
        const int32_t target = targets[static_cast<size_t>(n)];
        double maximum = row[0], total = 0;
        for (int64_t v = 0; v < V; ++v) maximum = std::max(maximum, row[v]);
        for (int64_t v = 0; v < V; ++v) total += std::exp(row[v] - maximum);
        if (target >= 0) r.losses[static_cast<size_t>(n)] = maximum + std::log(total) - row[target];
        for (int64_t v = 0; v < V; ++v)
            row[v] = target < 0 ? 0 : loss_scale * (std::exp(row[v] - maximum) / total - (v == target ? 1 : 0));
    }
    logits = rounded(products, std::move(logits));
    r.d_x = reference_matmul(logits, false, weight, false, N, C, V);
    r.d_weight = reference_matmul(logits, true, x, false, V, C, N);
    return r;
}

}  // namespace ballast::test
