#pragma once

#include <cmath>
#include <span>

namespace ballast::eval {

/// Mean, and standard deviation with divisor n (not n - 1), for a bar with an error bar.
struct Spread {
    double mean = 0, deviation = 0;
};

inline Spread spread_of(std::span<const double> values) {
    const auto n = static_cast<double>(values.size());
    Spread out;
    for (const double x : values) out.mean += x / n;
    double variance = 0;
    for (const double x : values) variance += (x - out.mean) * (x - out.mean) / n;
    out.deviation = std::sqrt(variance);
    return out;
}

}  // namespace ballast::eval
