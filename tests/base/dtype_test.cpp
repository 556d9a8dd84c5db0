#include "base/dtype.h"

#include <cmath>
#include <limits>

#include "tests/catch.h"

using namespace ballast;

namespace {

f16 from_bits(uint32_t bits) {
    f16 half;
    half.bits = static_cast<uint16_t>(bits);
    return half;
}

/// The value of a pattern, from the format's definition.
double value_of(uint32_t bits) {
    const int exponent = static_cast<int>(bits >> 10 & 31), fraction = static_cast<int>(bits & 1023);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31) return fraction != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
    return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

}  // namespace

TEST_CASE("fp16 becomes float exactly, for all 65536 bit patterns, and comes back") {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const auto actual = static_cast<float>(from_bits(bits));
        const double expected = value_of(bits);
        INFO("bits " << bits << " became " << actual);
        if (std::isnan(expected)) {
            if (!std::isnan(actual) || !std::isnan(static_cast<float>(f16(actual)))) FAIL();
        } else if (!(actual == expected && std::signbit(actual) == std::signbit(expected) &&
                     f16(actual).bits == bits)) {
            FAIL();
        }
    }
}

TEST_CASE("fp16 rounds to nearest even: every tie, and the floats on both sides of it") {
    const float infinity = std::numeric_limits<float>::infinity();
    for (uint32_t bits = 0; bits < 0x7c00; ++bits) {  // each number and the next; 0x7c00 stands where 2^16 would
        const double low = value_of(bits), high = bits == 0x7bff ? 65536 : value_of(bits + 1);
        const auto tie = static_cast<float>((low + high) / 2);
        const uint32_t even = bits + (bits & 1);
        for (const float sign : {1.0f, -1.0f}) {
            const uint32_t sign_bit = sign < 0 ? 0x8000 : 0;
            INFO("between " << low << " and " << high << ", sign " << sign);
            if (f16(sign * tie).bits != (even | sign_bit)) FAIL();
            if (f16(sign * std::nextafter(tie, 0.0f)).bits != (bits | sign_bit)) FAIL();
            if (f16(sign * std::nextafter(tie, infinity)).bits != ((bits + 1) | sign_bit)) FAIL();
        }
    }
    CHECK(f16(infinity).bits == 0x7c00);
    CHECK(f16(-infinity).bits == 0xfc00);
    CHECK(f16(std::numeric_limits<float>::max()).bits == 0x7c00);
    CHECK(f16(std::numeric_limits<float>::denorm_min()).bits == 0);
    CHECK(f16(-std::numeric_limits<float>::denorm_min()).bits == 0x8000);
    CHECK(std::isnan(static_cast<float>(f16(std::nanf("")))));
}

TEST_CASE("compute dtypes by name") {
    for (size_t i = 0; i < kComputeDtypeNames.size(); ++i)
        CHECK(name_of(static_cast<Dtype>(i)) == kComputeDtypeNames[i]);
    CHECK(size_of(Dtype::f16) == 2);
    CHECK(accumulation_dtype(Dtype::f16) == Dtype::f32);
}
