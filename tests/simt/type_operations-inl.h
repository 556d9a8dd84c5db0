// Tabulates what CUDA's data types do. Include after a definition of the types, ours or NVIDIA's: the same lines
// compile against both. Everything is local to the including file, since the two would otherwise be one to the linker.
#include <concepts>
#include <cstring>
#include <type_traits>
#include <typeinfo>

#include "tests/simt/nvidia_types.h"

namespace {

using ballast::test::CudaTypes;
using ballast::test::Float16Operations;
using ballast::test::NamedBits;
using ballast::test::TypeLayout;

template <class T>
uint64_t bits_of(T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, static_cast<const void*>(&value), sizeof value);
    return bits;
}

struct Bf16Names {
    using Scalar = __nv_bfloat16;
    using Pair = __nv_bfloat162;
    using Other = __half;
    static Scalar from_bits(uint16_t bits) { return __ushort_as_bfloat16(bits); }
    static float to_float(Scalar a) { return __bfloat162float(a); }
    static Scalar from_float(float a) { return __float2bfloat16_rn(a); }
    static Scalar from_double(double a) { return __double2bfloat16(a); }
    static Pair halves(Scalar low, Scalar high) { return __halves2bfloat162(low, high); }
    static void conversions(Scalar a, std::vector<NamedBits>& out) {
        out.push_back({"__bfloat16_as_ushort", __bfloat16_as_ushort(a)});
        out.push_back({"__bfloat16_as_short", bits_of(__bfloat16_as_short(a))});
        out.push_back({"__short_as_bfloat16", bits_of(__short_as_bfloat16(__bfloat16_as_short(a)))});
        out.push_back({"__bfloat162bfloat162", bits_of(__bfloat162bfloat162(a))});
        out.push_back({"__float2bfloat16", bits_of(__float2bfloat16(__bfloat162float(a)))});
        out.push_back({"__float2bfloat162_rn", bits_of(__float2bfloat162_rn(__bfloat162float(a)))});
    }
    static void conversions(Pair a, std::vector<NamedBits>& out) {
        const float2 floats = __bfloat1622float2(a);
        out.push_back({"__bfloat1622float2", bits_of(floats)});
        out.push_back({"__float22bfloat162_rn", bits_of(__float22bfloat162_rn(floats))});
        out.push_back({"__floats2bfloat162_rn", bits_of(__floats2bfloat162_rn(floats.x, floats.y))});
        out.push_back({"__low2bfloat16", bits_of(__low2bfloat16(a))});
        out.push_back({"__high2bfloat16", bits_of(__high2bfloat16(a))});
        out.push_back({"make_bfloat162", bits_of(make_bfloat162(a.y, a.x))});
    }
};

struct Fp16Names {
    using Scalar = __half;
    using Pair = __half2;
    using Other = __nv_bfloat16;
    static Scalar from_bits(uint16_t bits) { return __ushort_as_half(bits); }
    static float to_float(Scalar a) { return __half2float(a); }
    static Scalar from_float(float a) { return __float2half_rn(a); }
    static Scalar from_double(double a) { return __double2half(a); }
    static Pair halves(Scalar low, Scalar high) { return __halves2half2(low, high); }
    static void conversions(Scalar a, std::vector<NamedBits>& out) {
        out.push_back({"__half_as_ushort", __half_as_ushort(a)});
        out.push_back({"__half_as_short", bits_of(__half_as_short(a))});
        out.push_back({"__short_as_half", bits_of(__short_as_half(__half_as_short(a)))});
        out.push_back({"__half2half2", bits_of(__half2half2(a))});
        out.push_back({"__float2half", bits_of(__float2half(__half2float(a)))});
        out.push_back({"__float2half2_rn", bits_of(__float2half2_rn(__half2float(a)))});
    }
    static void conversions(Pair a, std::vector<NamedBits>& out) {
        const float2 floats = __half22float2(a);
        out.push_back({"__half22float2", bits_of(floats)});
        out.push_back({"__float22half2_rn", bits_of(__float22half2_rn(floats))});
        out.push_back({"__floats2half2_rn", bits_of(__floats2half2_rn(floats.x, floats.y))});
        out.push_back({"__low2half", bits_of(__low2half(a))});
        out.push_back({"__high2half", bits_of(__high2half(a))});
        out.push_back({"make_half2", bits_of(make_half2(a.y, a.x))});
    }
};

template <class Names>
struct Tables {
    using T = typename Names::Scalar;
    using Pair = typename Names::Pair;
    using Other = typename Names::Other;

    /// What kernels might write; a source that compiles against one set of types must do so against the other.
    template <class S>
    static std::vector<NamedBits> traits_of() {
        return {{"sizeof", sizeof(S)}, {"alignof", alignof(S)}, {"sizeof pair", sizeof(Pair)},
                {"alignof pair", alignof(Pair)},
                {"trivially default constructible", std::is_trivially_default_constructible_v<S>},
                {"pair, trivially default constructible", std::is_trivially_default_constructible_v<Pair>},
                {"trivially copyable", std::is_trivially_copyable_v<S>},
                {"standard layout", std::is_standard_layout_v<S>}, {"from float", std::is_convertible_v<float, S>},
                {"from double", std::is_convertible_v<double, S>}, {"from int", std::is_convertible_v<int, S>},
                {"from int64_t", std::is_convertible_v<int64_t, S>}, {"from bool", std::is_convertible_v<bool, S>},
                {"from the other", std::is_convertible_v<Other, S>},
                {"from the other, explicitly", std::is_constructible_v<S, Other>},
                {"from a pointer", std::is_constructible_v<S, S*>}, {"to float", std::is_convertible_v<S, float>},
                {"to double", std::is_convertible_v<S, double>}, {"to int", std::is_convertible_v<S, int>},
                {"to bool", std::is_convertible_v<S, bool>}, {"pair from scalars", std::is_constructible_v<Pair, S, S>},
                {"pair from floats", std::is_constructible_v<Pair, float, float>},
                {"pair from a scalar", std::is_constructible_v<Pair, S>}, {"a = float", requires(S a, float f){a = f;
    }
}, {"a = int", requires(S a, int i){a = i;
}  // namespace
}
, {"a + b", requires(S a){a + a;
}
}
, {"a + float", requires(S a, float f){a + f;
}
}
, {"float * a", requires(S a, float f){f * a;
}
}
, {"a * int", requires(S a, int i){a * i;
}
}
, {"a == float", requires(S a, float f){a == f;
}
}
, {"a < float", requires(S a, float f){a < f;
}
}
, {"a < int", requires(S a, int i){a < i;
}
}
, {"a += b", requires(S a){a += a;
}
}
, {"a += float", requires(S a, float f){a += f;
}
}
, {"float += a", requires(S a, float f){f += a;
}
}
, {"float = a", requires(S a, float f){f = a;
}
}
, {"a + the other", requires(S a, Other b){a + b;
}
}
, {"__hadd(a, float)", requires(S a, float f){__hadd(a, f);
}
}
, {"__hadd(a, the other)", requires(S a, Other b){__hadd(a, b);
}
}
, {"!a", requires(S a){!a;
}
}
, {"a ? 1 : 0", requires(S a){a ? 1 : 0;
}
}
, {"a % b", requires(S a){a % a;
}
}
, {"pair.x = float", requires(Pair p){p.x = 1.0f;
}
}
,
}
;
}

static void from_floats(const float* values, uint16_t* results, size_t count) {
    for (size_t i = 0; i < count; ++i) results[i] = static_cast<uint16_t>(bits_of(Names::from_float(values[i])));
}

static void from_double(double value, std::vector<NamedBits>& out) {
    out.assign({{"__double2...", bits_of(Names::from_double(value))}, {"T(double)", bits_of(T(value))}});
}

static void from_integer(uint64_t bits, std::vector<NamedBits>& out) {
    out.assign({{"T(short)", bits_of(T(static_cast<short>(bits)))},
                {"T(unsigned short)", bits_of(T(static_cast<unsigned short>(bits)))},
                {"T(int)", bits_of(T(static_cast<int>(bits)))},
                {"T(unsigned)", bits_of(T(static_cast<unsigned>(bits)))},
                {"T(long)", bits_of(T(static_cast<long>(bits)))},
                {"T(unsigned long)", bits_of(T(static_cast<unsigned long>(bits >> 1)))},
                {"T(long long)", bits_of(T(static_cast<long long>(bits)))},
                {"T(unsigned long long)", bits_of(T(static_cast<unsigned long long>(bits >> 1)))}});
}

static void unary(uint16_t bits, std::vector<NamedBits>& out) {
    const T a = Names::from_bits(bits);
    out.assign({{"bits", bits_of(a)},
                {"to float", bits_of(Names::to_float(a))},
                {"float(a)", bits_of(static_cast<float>(a))},
                {"double(a)", bits_of(static_cast<double>(a))},
                {"signed char(a)", bits_of(static_cast<signed char>(a))},
                {"unsigned char(a)", bits_of(static_cast<unsigned char>(a))},
                {"char(a)", bits_of(static_cast<char>(a))},
                {"short(a)", bits_of(static_cast<short>(a))},
                {"unsigned short(a)", bits_of(static_cast<unsigned short>(a))},
                {"int(a)", bits_of(static_cast<int>(a))},
                {"unsigned(a)", bits_of(static_cast<unsigned>(a))},
                {"long(a)", bits_of(static_cast<long>(a))},
                {"unsigned long(a)", bits_of(static_cast<unsigned long>(a))},
                {"long long(a)", bits_of(static_cast<long long>(a))},
                {"unsigned long long(a)", bits_of(static_cast<unsigned long long>(a))},
                {"bool(a)", static_cast<bool>(a)},
                {"the other", bits_of(Other(a))},
                {"+a", bits_of(+a)},
                {"-a", bits_of(-a)},
                {"__hneg", bits_of(__hneg(a))},
                {"__habs", bits_of(__habs(a))},
                {"__hisnan", __hisnan(a)},
                {"__hisinf", bits_of(__hisinf(a))}});
    Names::conversions(a, out);
}

static void binary(uint16_t a_bits, uint16_t b_bits, std::vector<NamedBits>& out) {
    const T a = Names::from_bits(a_bits), b = Names::from_bits(b_bits);
    T sum = a, difference = a, product = a, quotient = a;
    sum += b, difference -= b, product *= b, quotient /= b;
    out.assign({{"a + b", bits_of(a + b)},
                {"a - b", bits_of(a - b)},
                {"a * b", bits_of(a * b)},
                {"a / b", bits_of(a / b)},
                {"a += b", bits_of(sum)},
                {"a -= b", bits_of(difference)},
                {"a *= b", bits_of(product)},
                {"a /= b", bits_of(quotient)},
                {"__hadd", bits_of(__hadd(a, b))},
                {"__hsub", bits_of(__hsub(a, b))},
                {"__hmul", bits_of(__hmul(a, b))},
                {"__hdiv", bits_of(__hdiv(a, b))},
                {"__hmax", bits_of(__hmax(a, b))},
                {"__hmin", bits_of(__hmin(a, b))},
                {"== != < <= > >=", uint64_t{a == b} | uint64_t{a != b} << 1 | uint64_t{a < b} << 2 |
                                        uint64_t{a <= b} << 3 | uint64_t{a > b} << 4 | uint64_t{a >= b} << 5},
                {"__heq __hne __hlt __hle __hgt __hge", uint64_t{__heq(a, b)} | uint64_t{__hne(a, b)} << 1 |
                                                            uint64_t{__hlt(a, b)} << 2 | uint64_t{__hle(a, b)} << 3 |
                                                            uint64_t{__hgt(a, b)} << 4 | uint64_t{__hge(a, b)} << 5}});
}

static Pair pair_of(uint32_t bits) {
    return Names::halves(Names::from_bits(static_cast<uint16_t>(bits)),
                         Names::from_bits(static_cast<uint16_t>(bits >> 16)));
}

static void pairs(uint32_t a_bits, uint32_t b_bits, std::vector<NamedBits>& out) {
    const Pair a = pair_of(a_bits), b = pair_of(b_bits);
    Pair sum = a, difference = a, product = a, quotient = a;
    sum += b, difference -= b, product *= b, quotient /= b;
    out.assign({{"pair", bits_of(a)},
                {"a + b", bits_of(a + b)},
                {"a - b", bits_of(a - b)},
                {"a * b", bits_of(a * b)},
                {"a / b", bits_of(a / b)},
                {"-a", bits_of(-a)},
                {"a += b", bits_of(sum)},
                {"a -= b", bits_of(difference)},
                {"a *= b", bits_of(product)},
                {"a /= b", bits_of(quotient)},
                {"__hadd2", bits_of(__hadd2(a, b))},
                {"__hsub2", bits_of(__hsub2(a, b))},
                {"__hmul2", bits_of(__hmul2(a, b))},
                {"__h2div", bits_of(__h2div(a, b))},
                {"__hneg2", bits_of(__hneg2(a))},
                {"__habs2", bits_of(__habs2(a))},
                {"__hmax2", bits_of(__hmax2(a, b))},
                {"__hmin2", bits_of(__hmin2(a, b))},
                {"__low2float", bits_of(__low2float(a))},
                {"__high2float", bits_of(__high2float(a))}});
    Names::conversions(a, out);
}

static Float16Operations make() {
    return {traits_of<T>(), from_floats, from_double, from_integer, unary, binary, pairs};
}
}
;

template <class T>
TypeLayout layout_of(const char* name) {
    return {name, typeid(decltype(T::x)).name(), sizeof(T), alignof(T)};
}

CudaTypes tabulate_types() {
    return {{layout_of<char4>("char4"), layout_of<uchar4>("uchar4"), layout_of<short2>("short2"),
             layout_of<short4>("short4"), layout_of<ushort2>("ushort2"), layout_of<ushort4>("ushort4"),
             layout_of<int2>("int2"), layout_of<int3>("int3"), layout_of<int4>("int4"), layout_of<uint2>("uint2"),
             layout_of<uint3>("uint3"), layout_of<uint4>("uint4"), layout_of<longlong2>("longlong2"),
             layout_of<ulonglong2>("ulonglong2"), layout_of<float2>("float2"), layout_of<float3>("float3"),
             layout_of<float4>("float4"), layout_of<double2>("double2"), layout_of<dim3>("dim3")},
            Tables<Bf16Names>::make(),
            Tables<Fp16Names>::make()};
}

}  // namespace
