#include "kernels/simt/types.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "tests/catch.h"
#include "tests/simt/type_operations-inl.h"

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

/// splitmix64 (Steele, Lea and Flood, 2014): twenty million numbers must cost next to nothing.
struct Random {
    uint64_t state;
    uint64_t operator()() {
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
};

/// The oracle: a 16-bit format as the list of its values, each from the definition of a floating-point number.
class Format {
  public:
    Format(int exponent_bits, int mantissa_bits) {
        const int bias = (1 << (exponent_bits - 1)) - 1, mantissas = 1 << mantissa_bits;
        for (int field = 0; field < (1 << exponent_bits) - 1; ++field)
            for (int mantissa = 0; mantissa < mantissas; ++mantissa)
                values_.push_back(
                    std::ldexp(mantissa + (field != 0 ? mantissas : 0), std::max(field, 1) - bias - mantissa_bits));
        // What would come next. To round to it is to overflow (IEEE 754-2019, 4.3.1), and its place is infinity's.
        values_.push_back(std::ldexp(1.0, bias + 1));
    }

    uint16_t infinity() const { return static_cast<uint16_t>(values_.size() - 1); }
    const std::vector<double>& values() const { return values_; }
    double value(uint16_t bits) const {
        const unsigned magnitude = bits & 0x7fffu;
        const double value = magnitude > infinity() ? NAN : magnitude == infinity() ? kInf : values_[magnitude];
        return (bits & 0x8000) != 0 ? -value : value;
    }

    /// Nearest even by looking at both neighbours.
    uint16_t nearest(double x) const {
        if (std::isnan(x)) return 0x7fff;
        const unsigned sign = std::signbit(x) ? 0x8000 : 0;
        const double magnitude = std::fabs(x);
        if (magnitude >= values_.back()) return static_cast<uint16_t>(sign | infinity());
        const auto above = std::upper_bound(values_.begin(), values_.end(), magnitude), below = above - 1;
        const double to_below = magnitude - *below, to_above = *above - magnitude;
        auto place = static_cast<unsigned>(below - values_.begin());
        if (to_above < to_below || (to_above == to_below && place % 2 != 0)) ++place;
        return static_cast<uint16_t>(sign | place);
    }

    /// Of two values of the format; a NaN only if both are.
    uint16_t larger(double x, double y) const {
        if (x == y) return nearest(std::signbit(x) ? y : x);  // +0, if one of the zeros is
        return nearest(std::fmax(x, y));
    }

    /// Nearest even of a * b + c. Where the result lies between two values is decided by the sign of
    /// a * b + (c - value): right when c - value is exact, that is, when the operands' exponents are not far apart.
    uint16_t nearest_fma(double a, double b, double c) const {
        const double near = std::fma(a, b, c);
        const unsigned sign = std::signbit(near) ? 0x8000 : 0;
        if (near == 0) return static_cast<uint16_t>(sign);  // exactly: a double reaches far below the format
        if (sign != 0) a = -a, c = -c;
        const auto exceeds = [&](double value) { return std::fma(a, b, c - value); };
        int place = nearest(std::fabs(near)) - 1;  // or the next, or the one after
        if (place < 0) place = 0;
        while (place + 1 < static_cast<int>(values_.size()) && exceeds(at(place + 1)) >= 0) ++place;
        if (place == infinity()) return static_cast<uint16_t>(sign | infinity());
        const double beyond_tie = exceeds((at(place) + at(place + 1)) / 2);
        if (beyond_tie > 0 || (beyond_tie == 0 && place % 2 != 0)) ++place;
        return static_cast<uint16_t>(sign | static_cast<unsigned>(place));
    }

  private:
    double at(int place) const { return values_[static_cast<size_t>(place)]; }
    std::vector<double> values_;
};

/// Every value of the format, every tie, and their neighbours among the floats, up to twice the largest; both signs.
std::vector<float> critical_floats(const Format& format) {
    std::vector<float> floats;
    const std::vector<double>& values = format.values();
    for (size_t i = 0; i < values.size(); ++i) {
        const double next = i + 1 < values.size() ? values[i + 1] : values[i] * 2;
        for (const double centre : {values[i], values[i] / 2 + next / 2}) {
            const auto exact = static_cast<float>(centre);
            for (const float value : {std::nextafter(exact, 0.0f), exact, std::nextafter(exact, float(kInf))}) {
                floats.push_back(value);
                floats.push_back(-value);
            }
        }
    }
    for (const uint32_t bits : {0x7f800000u, 0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0x7f7fffffu, 1u, 0x007fffffu})
        for (const uint32_t sign : {0u, 0x80000000u}) floats.push_back(std::bit_cast<float>(bits | sign));
    return floats;
}

/// Bits for two or three operands: first all combinations of special values, then half of them anything and half of
/// nearly the same exponent.
class Operands {
  public:
    Operands(const Format& format, uint64_t seed) : random_{seed} {
        const uint16_t infinity = format.infinity();
        const unsigned smallest_normal = infinity == 0x7c00 ? 0x0400 : 0x0080,
                       one = infinity == 0x7c00 ? 0x3c00 : 0x3f80;
        for (const unsigned bits : {0u, 1u, smallest_normal - 1, smallest_normal, one - 1, one, one + 1, infinity - 1u,
                                    unsigned{infinity}, infinity + 1u, 0x7fffu})
            for (const unsigned sign : {0u, 0x8000u}) special_.push_back(static_cast<uint16_t>(bits | sign));
    }
    void next() {
        const size_t n = special_.size(), i = count_++;
        if (i < n * n * n) {
            a = special_[i % n], b = special_[i / n % n], c = special_[i / n / n];
        } else {
            a = static_cast<uint16_t>(random_());
            b = partner(), c = partner();
        }
    }
    uint16_t a = 0, b = 0, c = 0;

  private:
    uint16_t partner() {
        const uint64_t bits = random_();
        const unsigned change = (bits >> 32) % 2 == 0 ? 0xffff : 0x8fff;
        return static_cast<uint16_t>(a ^ (bits & change));
    }

    std::vector<uint16_t> special_;
    size_t count_ = 0;
    Random random_;
};

/// Stops at the first difference: a loop of REQUIRE would take longer than the work.
void same(uint16_t got, uint16_t want, const char* what, double a, double b = 0, double c = 0) {
    if (got != want)
        FAIL(fmt::format("{} of {:a}, {:a}, {:a}: got {:#06x}, expected {:#06x}", what, a, b, c, got, want));
}

template <class Names>
void check_conversions(const Format& format) {
    using T = typename Names::Scalar;
    for (unsigned i = 0; i < 0x10000; ++i) {
        const auto bits = static_cast<uint16_t>(i);
        const T a = Names::from_bits(bits);
        const double value = format.value(bits);
        const float widened = a;
        if (std::isnan(value)) {
            if (!std::isnan(widened)) FAIL(fmt::format("{:#06x} must be NaN", i));
            if (static_cast<int>(a) != 0) FAIL(fmt::format("{:#06x} as an integer must be 0", i));
            same(T(widened).bits(), 0x7fff, "NaN there and back", value);
        } else {
            if (std::bit_cast<uint64_t>(double{widened}) != std::bit_cast<uint64_t>(value))
                FAIL(fmt::format("{:#06x} is {:a}, not {:a}", i, value, widened));
            const double most = std::numeric_limits<int>::max(), least = std::numeric_limits<int>::min();
            if (static_cast<int>(a) != static_cast<int>(std::clamp(value, least, most)))
                FAIL(fmt::format("{:#06x} as an integer is {}", i, static_cast<int>(a)));
            same(T(widened).bits(), bits, "float there and back", value);
            same(T(value).bits(), bits, "double there and back", value);
        }
    }
    for (const float value : critical_floats(format)) {
        same(Names::from_float(value).bits(), format.nearest(value), "float", value);
        const double above = std::nextafter(value, kInf), below = std::nextafter(value, -kInf);
        for (const double wide : {above, double{value}, below})
            same(T(wide).bits(), format.nearest(wide), "double", wide);
    }
    Random random{1};
    for (int i = 0; i < 500000; ++i) {
        const auto narrow = std::bit_cast<float>(static_cast<uint32_t>(random()));
        same(T(narrow).bits(), format.nearest(narrow), "float", narrow);
        const uint64_t bits = random();
        const auto wide = std::bit_cast<double>(bits);
        same(T(wide).bits(), format.nearest(wide), "double", wide);
        // Few doubles taken at random have an exponent that the format has.
        const double inside =
            std::ldexp(1 + std::ldexp(static_cast<double>(bits >> 12), -52), static_cast<int>(bits % 48) - 28);
        same(T(inside).bits(), format.nearest(inside), "double", inside);
    }
}

template <class Names>
void check_arithmetic(const Format& format) {
    using T = typename Names::Scalar;
    Operands operands(format, 2);
    for (int i = 0; i < 300000; ++i) {
        operands.next();
        const T a = T::from_bits(operands.a), b = T::from_bits(operands.b), c = T::from_bits(operands.c);
        const double x = format.value(operands.a), y = format.value(operands.b), z = format.value(operands.c);
        same((a + b).bits(), format.nearest(x + y), "+", x, y);
        same((a - b).bits(), format.nearest(x - y), "-", x, y);
        same((a * b).bits(), format.nearest(x * y), "*", x, y);
        same((a / b).bits(), format.nearest(x / y), "/", x, y);
        const bool ordered = !(std::isnan(x) || std::isnan(y));
        if ((a == b) != (x == y) || (a != b) != (x != y) || (a < b) != (x < y) || (a >= b) != (x >= y) ||
            __hne(a, b) != (ordered && x != y))
            FAIL(fmt::format("comparison of {:a} and {:a}", x, y));

        same(__hmax(a, b).bits(), format.larger(x, y), "max", x, y);
        same(__hmin(a, b).bits(), format.larger(-x, -y) ^ (std::isnan(x) && std::isnan(y) ? 0 : 0x8000), "min", x, y);

        // c near the product, or of any size: half has no exponents too far apart for the oracle.
        const double product = x * y;
        const bool near = std::fabs(product) < std::fabs(z) * 0x1p40 && std::fabs(z) < std::fabs(product) * 0x1p40;
        if (!std::isfinite(product) || !std::isfinite(z))
            same(__hfma(a, b, c).bits(), format.nearest(product + z), "fma", x, y, z);
        else if (format.infinity() == 0x7c00 || near)
            same(__hfma(a, b, c).bits(), format.nearest_fma(x, y, z), "fma", x, y, z);
    }
}

/// All ways two products can tie, with an addend far too small to show in a double sum.
template <class Names>
void check_single_rounding(const Format& format) {
    using T = typename Names::Scalar;
    const int first = format.infinity() == 0x7c00 ? 0x3c00 : 0x3f80;  // 1.0
    const int count = format.infinity() == 0x7c00 ? 0x400 : 0x80;
    int ties = 0;
    for (int i = first; i < first + count; ++i)
        for (int j = i; j < first + count; ++j) {
            const T a = T::from_bits(static_cast<uint16_t>(i)), b = T::from_bits(static_cast<uint16_t>(j));
            const double product = double{float(a)} * double{float(b)};
            const uint16_t even = format.nearest(product), up = format.nearest(std::nextafter(product, 4)),
                           down = format.nearest(std::nextafter(product, 0));
            if (up == down) continue;  // no tie
            ++ties;
            for (const uint16_t tiny : {uint16_t{1}, uint16_t{2}, uint16_t{0x0400}, uint16_t{0x0800}}) {
                const T c = T::from_bits(tiny);
                same(__hfma(a, b, c).bits(), up, "fma", float(a), float(b), float(c));
                same(__hfma(a, b, -c).bits(), down, "fma", float(a), float(b), float(-c));
                same(__hfma(-a, b, c).bits(), down | 0x8000, "fma", float(-a), float(b), float(c));
                same(__hfma(-a, b, -c).bits(), up | 0x8000, "fma", float(-a), float(b), float(-c));
            }
            same(__hfma(a, b, T(0)).bits(), even, "fma", float(a), float(b));
        }
    CHECK(ties > 100);
}

using Table = std::vector<NamedBits>;

/// `describe` is called only on a difference.
template <class Describe>
void same(const Table& ours, const Table& theirs, Describe&& describe) {
    if (ours == theirs) return;
    REQUIRE(ours.size() == theirs.size());
    for (size_t i = 0; i < ours.size(); ++i)
        if (!(ours[i] == theirs[i]))
            FAIL(fmt::format("{} ({}): ours {:#x}, NVIDIA's {:#x}", ours[i].name, describe(), ours[i].bits,
                             theirs[i].bits));
}

void compare_floats(const Float16Operations& ours, const Float16Operations& theirs, const std::vector<float>& values) {
    std::vector<uint16_t> our_results(values.size()), their_results(values.size());
    ours.from_floats(values.data(), our_results.data(), values.size());
    theirs.from_floats(values.data(), their_results.data(), values.size());
    for (size_t i = 0; i < values.size(); ++i)
        if (our_results[i] != their_results[i])
            FAIL(fmt::format("float {:#010x}: ours {:#06x}, NVIDIA's {:#06x}", std::bit_cast<uint32_t>(values[i]),
                             our_results[i], their_results[i]));
}

void compare_with_nvidia(const Float16Operations& ours, const Float16Operations& theirs, const Format& format) {
    Random random{3};
    Table mine, nvidias;
    same(ours.traits, theirs.traits, [] { return "trait"; });
    for (unsigned i = 0; i < 0x10000; ++i) {
        ours.unary(static_cast<uint16_t>(i), mine);
        theirs.unary(static_cast<uint16_t>(i), nvidias);
        same(mine, nvidias, [&] { return fmt::format("{:#06x}", i); });
    }
    const std::vector<float> critical = critical_floats(format);
    compare_floats(ours, theirs, critical);
    std::vector<float> floats(1 << 14);
    for (size_t done = 0; done < 20'000'000; done += floats.size()) {
        for (size_t i = 0; i < floats.size(); i += 2) {
            const uint64_t bits = random();
            floats[i] = std::bit_cast<float>(static_cast<uint32_t>(bits));
            floats[i + 1] = std::bit_cast<float>(static_cast<uint32_t>(bits >> 32));
        }
        compare_floats(ours, theirs, floats);
    }
    for (int i = 0; i < 300000; ++i) {
        const auto critical_value = critical[static_cast<size_t>(i) % critical.size()];
        const double beside = std::nextafter(critical_value, i % 2 == 0 ? kInf : -kInf);
        for (const double value : {std::bit_cast<double>(random()), double{critical_value}, beside}) {
            ours.from_double(value, mine);
            theirs.from_double(value, nvidias);
            same(mine, nvidias, [&] { return fmt::format("double {:a}", value); });
        }
        const uint64_t bits = static_cast<uint64_t>(static_cast<int64_t>(random()) >> (i % 64));
        ours.from_integer(bits, mine);
        theirs.from_integer(bits, nvidias);
        same(mine, nvidias, [&] { return fmt::format("integer {:#x}", bits); });
    }
    Operands operands(format, 4);
    for (int i = 0; i < 1'050'000; ++i) {
        operands.next();
        ours.binary(operands.a, operands.b, mine);
        theirs.binary(operands.a, operands.b, nvidias);
        same(mine, nvidias, [&] { return fmt::format("{:#06x}, {:#06x}", operands.a, operands.b); });
    }
    for (int i = 0; i < 100'000; ++i) {
        operands.next();
        const uint32_t a = operands.a | uint32_t{operands.b} << 16;
        operands.next();
        const uint32_t b = operands.c | uint32_t{operands.b} << 16;
        ours.pairs(a, b, mine);
        theirs.pairs(a, b, nvidias);
        same(mine, nvidias, [&] { return fmt::format("{:#010x}, {:#010x}", a, b); });
    }
}

const Format& bf16_format() {
    static const Format format(8, 7);
    return format;
}
const Format& fp16_format() {
    static const Format format(5, 10);
    return format;
}

/// Out of line, or the compiler sees that the two are one.
template <class Wide, class Narrow>
[[gnu::noinline]] Narrow after_wide_store(Wide* wide, Narrow* narrow, Wide stored) {
    *narrow = Narrow{};
    *wide = stored;
    return *narrow;
}
template <class Wide, class Narrow>
[[gnu::noinline]] Narrow after_member_store(Wide* wide, Narrow* narrow, decltype(Wide::x) stored) {
    *narrow = Narrow{};
    wide->x = stored;
    return *narrow;
}

}  // namespace

TEST_CASE("simt types: layout") {
    CHECK(sizeof(__nv_bfloat16) == 2);
    CHECK(alignof(__nv_bfloat162) == 4);
    STATIC_REQUIRE(std::is_trivial_v<__nv_bfloat16>);
    STATIC_REQUIRE(std::is_trivial_v<__nv_bfloat162>);
    STATIC_REQUIRE(std::is_trivial_v<__half>);
    STATIC_REQUIRE(std::is_trivial_v<__half2>);
    STATIC_REQUIRE(std::is_aggregate_v<float4>);
    // CUDA C++ Programming Guide, table "Built-in Vector Types".
    struct Row {
        const char* name;
        size_t size, alignment;
    };
    const Row rows[] = {
        {"char4", 4, 4},   {"uchar4", 4, 4},   {"short2", 4, 4},      {"short4", 8, 8},       {"ushort2", 4, 4},
        {"ushort4", 8, 8}, {"int2", 8, 8},     {"int3", 12, 4},       {"int4", 16, 16},       {"uint2", 8, 8},
        {"uint3", 12, 4},  {"uint4", 16, 16},  {"longlong2", 16, 16}, {"ulonglong2", 16, 16}, {"float2", 8, 8},
        {"float3", 12, 4}, {"float4", 16, 16}, {"double2", 16, 16},   {"dim3", 12, 4},
    };
    const std::vector<TypeLayout> layouts = tabulate_types().layouts;
    REQUIRE(layouts.size() == std::size(rows));
    for (size_t i = 0; i < layouts.size(); ++i) {
        CHECK(layouts[i].name == rows[i].name);
        CHECK(layouts[i].size == rows[i].size);
        CHECK(layouts[i].alignment == rows[i].alignment);
    }
}

TEST_CASE("simt types: vectors and dim3") {
    const float4 f = make_float4(1, 2, 3, 4);
    CHECK((f.x == 1 && f.y == 2 && f.z == 3 && f.w == 4));
    const uchar4 c = make_uchar4(1, 2, 3, 255);
    CHECK((c.x == 1 && c.y == 2 && c.z == 3 && c.w == 255));
    const short4 s = make_short4(-1, 2, -3, 4);
    CHECK((s.x == -1 && s.y == 2 && s.z == -3 && s.w == 4));
    const int3 i = make_int3(-1, 2, -3);
    CHECK((i.x == -1 && i.y == 2 && i.z == -3));
    const dim3 defaults, two(7, 8), converted = make_uint3(4, 5, 6), number = 9;
    CHECK((defaults.x == 1 && defaults.y == 1 && defaults.z == 1));
    CHECK((two.x == 7 && two.y == 8 && two.z == 1));
    CHECK((converted.x == 4 && converted.y == 5 && converted.z == 6));
    CHECK((number.x == 9 && number.y == 1));
    const uint3 back = two;
    CHECK((back.x == 7 && back.y == 8 && back.z == 1));
    STATIC_REQUIRE(std::is_pointer_v<cudaStream_t>);
    const cudaStream_t stream = nullptr;
    CHECK(stream == nullptr);
}

// Kernels read and write arrays through pointers to wider types. Without may_alias g++ -O2 gives the old values here.
TEST_CASE("simt types: access through other types") {
    alignas(16) unsigned char bytes[16] = {};
    const auto as = [&]<class T>(T*) { return reinterpret_cast<T*>(bytes); };
    float* floats = as(static_cast<float*>(nullptr));
    uint32_t* words = as(static_cast<uint32_t*>(nullptr));
    CHECK(after_wide_store(as(static_cast<float4*>(nullptr)), words, make_float4(1, 0, 0, 0)) == 0x3f800000);
    CHECK(after_wide_store(as(static_cast<uint4*>(nullptr)), floats, make_uint4(0x40000000, 0, 0, 0)) == 2.0f);
    CHECK(after_member_store(as(static_cast<uint4*>(nullptr)), floats, 0x40400000) == 3.0f);
    CHECK(after_wide_store(as(static_cast<__nv_bfloat162*>(nullptr)), words, __floats2bfloat162_rn(1, 2)) ==
          0x40003f80);
    CHECK(after_member_store(as(static_cast<__half2*>(nullptr)), words, __half(1.0f)) == 0x3c00);
    CHECK(after_wide_store(as(static_cast<uint2*>(nullptr)), as(static_cast<__nv_bfloat16*>(nullptr)),
                           make_uint2(0x3f80, 0)) == __nv_bfloat16(1.0f));
}

TEST_CASE("simt types: usable in constant expressions") {
    STATIC_REQUIRE(__bfloat16_as_ushort(__float2bfloat16(1.0f)) == 0x3f80);
    STATIC_REQUIRE(__half_as_ushort(__hfma(__half(2), __half(3), __half(-5))) == 0x3c00);
    STATIC_REQUIRE(__low2float(__hmax2(__floats2half2_rn(1, 2), __float2half2_rn(1.5f))) == 1.5f);
    STATIC_REQUIRE(make_uint4(1, 2, 3, 4).w == 4);
    STATIC_REQUIRE(dim3(2, 3).z == 1);
}

TEST_CASE("simt types: conversions are exact or nearest even") {
    check_conversions<Bf16Names>(bf16_format());
    check_conversions<Fp16Names>(fp16_format());
}

TEST_CASE("simt types: arithmetic rounds once") {
    check_arithmetic<Bf16Names>(bf16_format());
    check_arithmetic<Fp16Names>(fp16_format());
    check_single_rounding<Bf16Names>(bf16_format());
    check_single_rounding<Fp16Names>(fp16_format());
}

TEST_CASE("simt types: NaN, infinity, zero and subnormals") {
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const auto bf16 = [](float value) { return __bfloat16_as_ushort(__float2bfloat16(value)); };
    const auto fp16 = [](float value) { return __half_as_ushort(__float2half(value)); };
    CHECK(bf16(nan) == 0x7fff);
    CHECK(bf16(-nan) == 0x7fff);
    CHECK(bf16(std::bit_cast<float>(0x7f800001u)) == 0x7fff);  // not infinity, though its upper half is
    CHECK(bf16(-inf) == 0xff80);
    CHECK(bf16(std::numeric_limits<float>::max()) == 0x7f80);
    CHECK(bf16(-0.0f) == 0x8000);
    CHECK(bf16(0x1p-133f) == 1);
    CHECK(bf16(0x1p-134f) == 0);
    CHECK(bf16(0x1.8p-134f) == 1);
    // 257 << 54 is a tie; as a double (257 << 54) + 1 is too.
    CHECK(__bfloat16_as_ushort(int64_t{257} << 54) == 0x5e80);
    CHECK(__bfloat16_as_ushort((int64_t{257} << 54) + 1) == 0x5e81);
    CHECK(__bfloat16_as_ushort(-(int64_t{259} << 54)) == 0xde82);
    CHECK(__bfloat16_as_ushort(-(int64_t{259} << 54) + 1) == 0xde81);
    CHECK(__bfloat16_as_ushort(~uint64_t{0}) == 0x5f80);
    CHECK(fp16(nan) == 0x7fff);
    CHECK(fp16(-nan) == 0x7fff);
    CHECK(fp16(65519.996f) == 0x7bff);
    CHECK(fp16(65520) == 0x7c00);
    CHECK(fp16(-65520) == 0xfc00);
    CHECK(fp16(0x1p-24f) == 1);
    CHECK(fp16(0x1p-25f) == 0);
    CHECK(fp16(-0x1.8p-25f) == 0x8001);
    CHECK(fp16(0x1.ffcp-15f) == 0x0400);  // the largest tie below the normal numbers

    const __half h_nan = nan, one = 1, zero = 0.0f, minus_zero = -0.0f, h_inf = inf, largest = 65504;
    CHECK(__half_as_ushort(__hmax(h_nan, one)) == 0x3c00);
    CHECK(__half_as_ushort(__hmin(one, h_nan)) == 0x3c00);
    CHECK(__half_as_ushort(__hmax(__ushort_as_half(0xfe01), h_nan)) == 0x7fff);
    CHECK(__half_as_ushort(__hmax(minus_zero, zero)) == 0);
    CHECK(__half_as_ushort(__hmax(zero, minus_zero)) == 0);
    CHECK(__half_as_ushort(__hmin(zero, minus_zero)) == 0x8000);
    CHECK(__half_as_ushort(h_inf - h_inf) == 0x7fff);
    CHECK(__half_as_ushort(zero / zero) == 0x7fff);
    CHECK(__half_as_ushort(-one / zero) == 0xfc00);
    CHECK(__half_as_ushort(largest + largest) == 0x7c00);
    CHECK(__half_as_ushort(__hfma(h_inf, one, -h_inf)) == 0x7fff);
    CHECK(__half_as_ushort(__hfma(h_inf, -one, largest)) == 0xfc00);
    CHECK(__half_as_ushort(__hfma(minus_zero, one, minus_zero)) == 0x8000);
    CHECK(__half_as_ushort(__hfma(one, one, -one)) == 0);
    CHECK(__half_as_ushort(__hfma(largest, largest, -h_inf)) == 0xfc00);
    CHECK(__half_as_ushort(-h_nan) == 0x7fff);
    CHECK((h_nan != h_nan && !(h_nan == h_nan) && !__hne(h_nan, one) && !(h_nan < one) && !(h_nan >= one)));
    CHECK((zero == minus_zero && !zero && one));
    CHECK(
        (int(h_nan) == 0 && int(__nv_bfloat16(1e20f)) == std::numeric_limits<int>::max() && int(__half(-2.9f)) == -2));
    const __half2 fused = __hfma2(__floats2half2_rn(1, 2), __floats2half2_rn(3, 4), __floats2half2_rn(5, 6));
    CHECK((__low2float(fused) == 8 && __high2float(fused) == 14));
}

TEST_CASE("simt types: as NVIDIA's headers have them") {
    const CudaTypes* theirs = ballast::test::nvidia_types();
    if (theirs == nullptr) {
        WARN("not compared with NVIDIA's headers: this build found no CUDA toolkit");
        return;
    }
    const CudaTypes ours = tabulate_types();
    REQUIRE(ours.layouts.size() == theirs->layouts.size());
    for (size_t i = 0; i < ours.layouts.size(); ++i) {
        INFO(ours.layouts[i].name);
        CHECK(ours.layouts[i] == theirs->layouts[i]);
    }
    SECTION("bf16") { compare_with_nvidia(ours.bf16, theirs->bf16, bf16_format()); }
    SECTION("fp16") { compare_with_nvidia(ours.fp16, theirs->fp16, fp16_format()); }
}
