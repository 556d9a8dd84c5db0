// The step of a fold over errors that must not lose a NaN.
#pragma once

#include <cmath>
#include <concepts>

namespace ballast {

/// The larger of a and b; NaN where one of them is NaN. std::max and fmax can pass over a NaN, and in a fold written as
/// `if (!(x <= worst)) worst = x` the next finite x replaces it. A check of the result would then accept a NaN.
template <std::floating_point T>
T larger_or_nan(T a, T b) {
    return std::isnan(a) || b <= a ? a : b;
}

}  // namespace ballast
