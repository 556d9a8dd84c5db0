#pragma once

#include <cmath>
#include <limits>

namespace ballast::eval {

/// x, but a NaN without its sign: processors set it, and "-nan" in a table says nothing more than "nan".
inline double unsigned_nan(double x) { return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x; }

}  // namespace ballast::eval
