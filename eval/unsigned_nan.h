#pragma once

#include <cmath>
#include <limits>

namespace ballast::eval {

/// x, with the sign of a NaN removed: processors set it, and "-nan" in a table means no more than "nan".
inline double unsigned_nan(double x) { return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x; }

}  // namespace ballast::eval
