// Element types of tensors and files.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ballast {

/// bfloat16 storage: the upper half of a float. Arithmetic happens in float; conversion rounds to nearest even.
struct bf16 {
    uint16_t bits = 0;

    bf16() = default;
    explicit bf16(float x) : bits(round(x)) {}
    explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

  private:
    static uint16_t round(float x) {
        const uint32_t u = std::bit_cast<uint32_t>(x);
        if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((u >> 16) | 0x40u);  // quiet NaN
        return static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
};

/// IEEE half precision storage ("fp16"): 11 significant bits, from 2^-24 to 65504. Arithmetic happens in float.
/// Conversion rounds to nearest even, subnormals included; a value that rounds beyond 65504 becomes infinity.
struct f16 {
    uint16_t bits = 0;

    f16() = default;
    explicit f16(float x) : bits(round(x)) {}
    explicit operator float() const {
        const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
        if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
        // After the shift the exponent is too small by 112. The product corrects it and normalises subnormals.
        const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
        return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | sign);
    }

  private:
    static uint16_t round(float x) {
        const uint32_t u = std::bit_cast<uint32_t>(x), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
        uint32_t half;
        if (magnitude > 0x7f800000u)
            half = 0x7e00u | (magnitude >> 13 & 0x3ffu);  // quiet NaN
        else if (magnitude >= 0x477ff000u)                // 65520, half way to 2^16
            half = 0x7c00u;
        else if (magnitude < 0x38800000u)  // below 2^-14: beside 0.5 the last bit of a float is 2^-24, a subnormal's
            half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
        else  // the exponents' biases differ by 112
            half = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
        return static_cast<uint16_t>(sign | half);
    }
};

enum class Dtype : uint8_t { f32, bf16, f16, f64, i32, i64, i8, u8, u16, u32 };

constexpr size_t size_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::f64:
        case Dtype::i64: return 8;
        case Dtype::f32:
        case Dtype::i32:
        case Dtype::u32: return 4;
        case Dtype::bf16:
        case Dtype::f16:
        case Dtype::u16: return 2;
        case Dtype::i8:
        case Dtype::u8: return 1;
    }
    return 0;
}

/// "f32", "bf16", "fp16" … as in our configs and messages.
constexpr std::string_view name_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::f32: return "f32";
        case Dtype::bf16: return "bf16";
        case Dtype::f16: return "fp16";
        case Dtype::f64: return "f64";
        case Dtype::i32: return "i32";
        case Dtype::i64: return "i64";
        case Dtype::i8: return "int8";
        case Dtype::u8: return "u8";
        case Dtype::u16: return "u16";
        case Dtype::u32: return "u32";
    }
    return "?";
}

/// The compute dtypes of models, by the names that configs and options take, in the order of the enumeration. (f64 is
/// for tests.)
inline constexpr std::array<std::string_view, 3> kComputeDtypeNames{name_of(Dtype::f32), name_of(Dtype::bf16),
                                                                    name_of(Dtype::f16)};

/// The dtype of gradients, optimiser state and statistics for activations in `dtype`.
constexpr Dtype accumulation_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }
/// bf16 and fp16: stored in 16 bits, computed in f32.
constexpr bool is_narrow(Dtype dtype) { return dtype == Dtype::bf16 || dtype == Dtype::f16; }

template <class T> struct DtypeOf;
template <> struct DtypeOf<float> { static constexpr Dtype value = Dtype::f32; };
template <> struct DtypeOf<double> { static constexpr Dtype value = Dtype::f64; };
template <> struct DtypeOf<bf16> { static constexpr Dtype value = Dtype::bf16; };
template <> struct DtypeOf<f16> { static constexpr Dtype value = Dtype::f16; };
template <> struct DtypeOf<int32_t> { static constexpr Dtype value = Dtype::i32; };
template <> struct DtypeOf<int64_t> { static constexpr Dtype value = Dtype::i64; };
template <> struct DtypeOf<int8_t> { static constexpr Dtype value = Dtype::i8; };
template <> struct DtypeOf<uint8_t> { static constexpr Dtype value = Dtype::u8; };
template <> struct DtypeOf<uint16_t> { static constexpr Dtype value = Dtype::u16; };
template <> struct DtypeOf<uint32_t> { static constexpr Dtype value = Dtype::u32; };

}  // namespace ballast
