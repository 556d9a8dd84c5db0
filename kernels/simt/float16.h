// The implementation of __nv_bfloat16, __half and their pairs; types.h gives them their names. Semantics follow the
// CUDA Math API reference (bfloat16 and half precision intrinsics) and the PTX ISA (cvt, add, mul, fma, min, max):
// every result is the exact one rounded once, to nearest even; subnormals are supported; a NaN result is 0x7fff.
#pragma once

#include <bit>
#include <compare>
#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace ballast::simt {

/// A sign, kExponentBits and the rest mantissa: 8 is bfloat16, 5 is IEEE half. Converts by itself from and to the same
/// types as NVIDIA's, so an expression that is ambiguous under nvcc (h + 1.0f) is so here. The intrinsics are friends,
/// found by the type of their arguments. may_alias: kernels read and write these through pointers to wider types.
template <int kExponentBits>
class [[gnu::may_alias]] alignas(2) Float16 {
    static constexpr int kMantissaBits = 15 - kExponentBits;
    static constexpr int kBias = (1 << (kExponentBits - 1)) - 1;
    static constexpr int kMaxExponent = (1 << kExponentBits) - 1;  // the field of infinities and NaN
    static constexpr uint16_t kInfinity = kMaxExponent << kMantissaBits;
    static constexpr uint16_t kNan = 0x7fff;

  public:
    Float16() = default;
    constexpr Float16(float value) : bits_(rounded(value)) {}
    constexpr Float16(double value) : bits_(rounded(value)) {}
    template <std::integral T>
    constexpr Float16(T value) : bits_(rounded_integer(value)) {}
    template <int kOtherExponentBits>
    explicit constexpr Float16(Float16<kOtherExponentBits> value) : Float16(static_cast<float>(value)) {}

    static constexpr Float16 from_bits(uint16_t bits) {
        Float16 result;
        result.bits_ = bits;
        return result;
    }
    constexpr uint16_t bits() const { return bits_; }

    /// Exact. A bfloat16 NaN keeps its bits, a half NaN becomes 0x7fffffff.
    constexpr operator float() const {
        if constexpr (kExponentBits == 8) {
            return std::bit_cast<float>(uint32_t{bits_} << 16);
        } else {
            const uint32_t sign = (bits_ & 0x8000u) << 16;
            const uint32_t magnitude = bits_ & 0x7fffu;
            if (magnitude > kInfinity) return std::bit_cast<float>(0x7fffffffu);
            if (magnitude == kInfinity) return std::bit_cast<float>(sign | 0x7f800000u);
            const uint32_t normal = (magnitude << (23 - kMantissaBits)) + (uint32_t{127 - kBias} << 23);
            const uint32_t subnormal = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
            return std::bit_cast<float>(sign | (magnitude >> kMantissaBits ? normal : subnormal));
        }
    }
    constexpr operator signed char() const { return truncated<signed char>(); }
    constexpr operator unsigned char() const { return truncated<unsigned char>(); }
    constexpr operator char() const { return truncated<char>(); }
    constexpr operator short() const { return truncated<short>(); }
    constexpr operator unsigned short() const { return truncated<unsigned short>(); }
    constexpr operator int() const { return truncated<int>(); }
    constexpr operator unsigned int() const { return truncated<unsigned int>(); }
    constexpr operator long() const { return truncated<long>(); }
    constexpr operator unsigned long() const { return truncated<unsigned long>(); }
    constexpr operator long long() const { return truncated<long long>(); }
    constexpr operator unsigned long long() const { return truncated<unsigned long long>(); }
    constexpr operator bool() const { return (bits_ & 0x7fff) != 0; }

    // Computed in double, then rounded: a double has more than twice the bits plus two, so the first rounding has no
    // effect.
    friend constexpr Float16 operator+(Float16 a, Float16 b) { return a.wide() + b.wide(); }
    friend constexpr Float16 operator-(Float16 a, Float16 b) { return a.wide() - b.wide(); }
    friend constexpr Float16 operator*(Float16 a, Float16 b) { return a.wide() * b.wide(); }
    /// (A GPU uses an approximate reciprocal, so its last bit may differ.)
    friend constexpr Float16 operator/(Float16 a, Float16 b) { return a.wide() / b.wide(); }
    friend constexpr Float16 operator+(Float16 a) { return a; }
    friend constexpr Float16 operator-(Float16 a) {
        return from_bits(a.is_nan() ? kNan : static_cast<uint16_t>(a.bits_ ^ 0x8000));
    }
    friend constexpr Float16& operator+=(Float16& a, Float16 b) { return a = a + b; }
    friend constexpr Float16& operator-=(Float16& a, Float16 b) { return a = a - b; }
    friend constexpr Float16& operator*=(Float16& a, Float16 b) { return a = a * b; }
    friend constexpr Float16& operator/=(Float16& a, Float16 b) { return a = a / b; }
    friend constexpr bool operator==(Float16 a, Float16 b) { return static_cast<float>(a) == static_cast<float>(b); }
    friend constexpr std::partial_ordering operator<=>(Float16 a, Float16 b) {
        return static_cast<float>(a) <=> static_cast<float>(b);
    }

    friend constexpr Float16 __hadd(Float16 a, Float16 b) { return a + b; }
    friend constexpr Float16 __hsub(Float16 a, Float16 b) { return a - b; }
    friend constexpr Float16 __hmul(Float16 a, Float16 b) { return a * b; }
    friend constexpr Float16 __hdiv(Float16 a, Float16 b) { return a / b; }
    friend constexpr Float16 __hneg(Float16 a) { return -a; }
    friend constexpr Float16 __habs(Float16 a) {
        return from_bits(a.is_nan() ? kNan : static_cast<uint16_t>(a.bits_ & 0x7fff));
    }
    friend constexpr bool __hisnan(Float16 a) { return a.is_nan(); }
    /// 1, -1 or 0.
    friend constexpr int __hisinf(Float16 a) {
        return (a.bits_ & 0x7fff) != kInfinity ? 0 : a.bits_ == kInfinity ? 1 : -1;
    }
    friend constexpr bool __heq(Float16 a, Float16 b) { return a == b; }
    friend constexpr bool __hne(Float16 a, Float16 b) { return a < b || a > b; }  // false for a NaN, unlike !=
    friend constexpr bool __hlt(Float16 a, Float16 b) { return a < b; }
    friend constexpr bool __hle(Float16 a, Float16 b) { return a <= b; }
    friend constexpr bool __hgt(Float16 a, Float16 b) { return a > b; }
    friend constexpr bool __hge(Float16 a, Float16 b) { return a >= b; }

    /// One NaN gives the other operand; +0 is more than -0.
    friend constexpr Float16 __hmax(Float16 a, Float16 b) { return chosen(a, b, a.order() > b.order()); }
    friend constexpr Float16 __hmin(Float16 a, Float16 b) { return chosen(a, b, a.order() < b.order()); }

    /// a * b + c. The product is exact in double, the sum may not be: it is rounded to odd, after which a second
    /// rounding to so few bits gives what one rounding would (Boldo and Melquiond, IEEE Trans. Computers 57(4), 2008).
    friend constexpr Float16 __hfma(Float16 a, Float16 b, Float16 c) {
        const double product = a.wide() * b.wide(), addend = c.wide(), sum = product + addend;
        // What the addition lost, exactly (Knuth's TwoSum); NaN when the sum is not finite.
        const double kept = sum - product;
        const double lost = (product - (sum - kept)) + (addend - kept);
        const uint64_t bits = std::bit_cast<uint64_t>(sum);
        if (!(lost < 0 || lost > 0) || (bits & 1) != 0) return sum;
        return std::bit_cast<double>((lost > 0) == (sum > 0) ? bits + 1 : bits - 1);
    }

  private:
    constexpr bool is_nan() const { return (bits_ & 0x7fff) > kInfinity; }
    constexpr double wide() const { return static_cast<float>(*this); }

    /// An order that ascends with the value, -0 before +0; not for NaN.
    constexpr int order() const { return (bits_ & 0x8000) != 0 ? -1 - (bits_ & 0x7fff) : int{bits_}; }

    static constexpr Float16 chosen(Float16 a, Float16 b, bool first) {
        if (a.is_nan()) return b.is_nan() ? from_bits(kNan) : b;
        return first || b.is_nan() ? a : b;
    }

    template <class Wide>
    static constexpr uint16_t rounded(Wide value) {
        using Bits = std::conditional_t<sizeof(Wide) == 8, uint64_t, uint32_t>;
        constexpr int wide_mantissa_bits = std::numeric_limits<Wide>::digits - 1;
        constexpr int wide_bias = std::numeric_limits<Wide>::max_exponent - 1;
        constexpr Bits sign_bit = Bits{1} << (8 * sizeof(Wide) - 1), implicit_one = Bits{1} << wide_mantissa_bits;

        const Bits bits = std::bit_cast<Bits>(value), magnitude = bits & ~sign_bit;
        const int field = static_cast<int>(magnitude >> wide_mantissa_bits);
        const bool finite = field != 2 * wide_bias + 1;
        Bits significand = magnitude & (implicit_one - 1);
        if (!finite && significand != 0) return kNan;
        const unsigned sign = (bits & sign_bit) != 0 ? 0x8000 : 0;
        if (field != 0) significand |= implicit_one;

        int exponent = (field != 0 ? field : 1) - wide_bias + kBias;
        if (!finite || exponent >= kMaxExponent) return static_cast<uint16_t>(sign | kInfinity);
        int dropped_bits = wide_mantissa_bits - kMantissaBits;
        if (exponent < 1) {  // subnormal: the significand moves right instead
            dropped_bits += 1 - exponent;
            exponent = 1;
            if (dropped_bits > wide_mantissa_bits + 2) return static_cast<uint16_t>(sign);
        }
        const unsigned kept = static_cast<unsigned>(significand >> dropped_bits);
        const Bits rest = significand & ((Bits{1} << dropped_bits) - 1), tie = Bits{1} << (dropped_bits - 1);
        const bool up = rest > tie || (rest == tie && (kept & 1) != 0);
        // The implicit one adds itself to the exponent, and a carry goes where it should, to infinity too.
        return static_cast<uint16_t>(sign + (static_cast<unsigned>(exponent - 1) << kMantissaBits) + kept + up);
    }

    template <std::integral T>
    static constexpr uint16_t rounded_integer(T value) {
        bool negative = false;
        if constexpr (std::is_signed_v<T>) negative = value < 0;
        uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
        // Too large for an exact double: round to odd, as in __hfma.
        if (magnitude >> 53 != 0) magnitude = ((magnitude >> 11) | ((magnitude & 0x7ff) != 0)) << 11;
        return rounded(negative ? -static_cast<double>(magnitude) : static_cast<double>(magnitude));
    }

    /// Toward zero, and to the nearest limit when out of range; NaN is 0, or 2^63 in 64 bits (PTX ISA: cvt).
    template <std::integral T>
    constexpr T truncated() const {
        constexpr T least = std::numeric_limits<T>::min(), most = std::numeric_limits<T>::max();
        constexpr float above = 2.0f * static_cast<float>(most / 2 + 1);
        const float value = *this;
        if (is_nan()) return sizeof(T) == 8 ? static_cast<T>(uint64_t{1} << 63) : T{0};
        if (value >= above) return most;
        if (value < static_cast<float>(least)) return least;
        return static_cast<T>(value);
    }

    uint16_t bits_;
};

/// A pair in one register. Unlike NVIDIA's on the host it is trivially copyable.
template <class Scalar>
struct [[gnu::may_alias]] alignas(4) Float16Pair {
    Scalar x, y;

    Float16Pair() = default;
    constexpr Float16Pair(Scalar low, Scalar high) : x(low), y(high) {}

    friend constexpr Float16Pair operator+(Float16Pair a, Float16Pair b) { return {a.x + b.x, a.y + b.y}; }
    friend constexpr Float16Pair operator-(Float16Pair a, Float16Pair b) { return {a.x - b.x, a.y - b.y}; }
    friend constexpr Float16Pair operator*(Float16Pair a, Float16Pair b) { return {a.x * b.x, a.y * b.y}; }
    friend constexpr Float16Pair operator/(Float16Pair a, Float16Pair b) { return {a.x / b.x, a.y / b.y}; }
    friend constexpr Float16Pair operator-(Float16Pair a) { return {-a.x, -a.y}; }
    friend constexpr Float16Pair& operator+=(Float16Pair& a, Float16Pair b) { return a = a + b; }
    friend constexpr Float16Pair& operator-=(Float16Pair& a, Float16Pair b) { return a = a - b; }
    friend constexpr Float16Pair& operator*=(Float16Pair& a, Float16Pair b) { return a = a * b; }
    friend constexpr Float16Pair& operator/=(Float16Pair& a, Float16Pair b) { return a = a / b; }
    friend constexpr Float16Pair __hadd2(Float16Pair a, Float16Pair b) { return a + b; }
    friend constexpr Float16Pair __hsub2(Float16Pair a, Float16Pair b) { return a - b; }
    friend constexpr Float16Pair __hmul2(Float16Pair a, Float16Pair b) { return a * b; }
    friend constexpr Float16Pair __h2div(Float16Pair a, Float16Pair b) { return a / b; }
    friend constexpr Float16Pair __hneg2(Float16Pair a) { return -a; }
    friend constexpr Float16Pair __habs2(Float16Pair a) { return {__habs(a.x), __habs(a.y)}; }
    friend constexpr Float16Pair __hmax2(Float16Pair a, Float16Pair b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
    friend constexpr Float16Pair __hmin2(Float16Pair a, Float16Pair b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }
    friend constexpr Float16Pair __hfma2(Float16Pair a, Float16Pair b, Float16Pair c) {
        return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
    }
    friend constexpr float __low2float(Float16Pair a) { return a.x; }
    friend constexpr float __high2float(Float16Pair a) { return a.y; }
};

}  // namespace ballast::simt
