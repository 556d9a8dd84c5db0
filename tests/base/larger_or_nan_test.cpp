#include "base/larger_or_nan.h"

#include <initializer_list>
#include <limits>

#include "tests/catch.h"

using namespace ballast;

namespace {

double fold(std::initializer_list<double> values) {
    double worst = 0;
    for (const double value : values) worst = larger_or_nan(worst, value);
    return worst;
}

}  // namespace

TEST_CASE("larger or NaN: a fold keeps a NaN, wherever it comes") {
    constexpr double kNaN = std::numeric_limits<double>::quiet_NaN(), kInf = std::numeric_limits<double>::infinity();
    CHECK(std::isnan(fold({kNaN, 1e-3})));
    CHECK(std::isnan(fold({1e-3, kNaN})));
    CHECK(std::isnan(fold({1e-3, -kNaN, kInf})));
    CHECK(std::isnan(fold({kNaN})));
    CHECK(fold({1e-3, 2e-3, 1e-4}) == 2e-3);
    CHECK(fold({kInf, 1}) == kInf);
    CHECK(fold({}) == 0);
    CHECK(std::isnan(larger_or_nan(std::numeric_limits<float>::quiet_NaN(), 1.0f)));
}
