// Rotary embedding and the QKV split, by plain loops: tables, rotated heads, where a token's features are.
#pragma once

#include "tests/kernels/reference/layers.h"

namespace ballast::test {

inline constexpr double kBase = 10000;

/// The table of plain rotary embedding, its rotated dims as wide as it is.
inline void fill_table(Context& context, const Tensor& table, double attention_factor = 1) {
    const int64_t R = table.dim(1);
    Values inv_freq;
    for (int64_t i = 0; i < R / 2; ++i)
        inv_freq.push_back(std::pow(kBase, -2.0 * static_cast<double>(i) / static_cast<double>(R)));
    ops::rope_table(context, table, inv_freq, attention_factor);
}

inline int64_t position_of(ops::Positions positions, int64_t t) {
    return std::min(positions.first + t, positions.last);
}

/// The oracle on a whole [B,T,H,D].
inline Values rotated(const Values& x, int64_t T, int64_t H, int64_t D, int64_t R, ops::Positions positions,
                      double attention_factor = 1) {
    Values out;
    for (size_t row = 0; row * static_cast<size_t>(D) < x.size(); ++row) {
        const auto first = x.begin() + static_cast<int64_t>(row) * D;
        const int64_t t = static_cast<int64_t>(row) / H % T;
        const Values z =
            reference_rope(Values(first, first + D), R, position_of(positions, t), kBase, attention_factor);
        out.insert(out.end(), z.begin(), z.end());
    }
    return out;
}

/// A shape of QKV, and the oracle of where its features are.
struct QkvCase {
    int64_t H, G, D, R;
    ops::QkvLayout layout = ops::QkvLayout::grouped;

    int64_t width() const { return (H + 2 * G) * D; }
    /// The place in a token's features where query head h (part 0), key head h (1) or value head h (2) begins.
    int64_t place(int part, int64_t h) const {
        if (layout == ops::QkvLayout::concatenated) return (part == 0 ? h : part == 1 ? H + h : H + G + h) * D;
        const int64_t K = H / G;
        return (part == 0 ? h / K * (K + 2) + h % K : h * (K + 2) + K + part - 1) * D;
    }
    Values part_of(const Values& qkv, int64_t tokens, int part) const {
        Values out;
        for (int64_t n = 0; n < tokens; ++n)
            for (int64_t h = 0; h < (part == 0 ? H : G); ++h) {
                const auto first = qkv.begin() + n * width() + place(part, h);
                out.insert(out.end(), first, first + D);
            }
        return out;
    }
};

inline constexpr auto kConcatenated = ops::QkvLayout::concatenated;

}  // namespace ballast::test
