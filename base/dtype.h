// Element types of tensors and files.
#pragma once

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

enum class Dtype : uint8_t { f32, bf16, f64, i32, i64, u8, u16, u32 };

constexpr size_t size_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::f64:
        case Dtype::i64: return 8;
        case Dtype::f32:
        case Dtype::i32:
        case Dtype::u32: return 4;
        case Dtype::bf16:
        case Dtype::u16: return 2;
        case Dtype::u8: return 1;
    }
    return 0;
}

/// "f32", "bf16", … as in our configs and messages.
std::string_view name_of(Dtype dtype);

/// Gradients, optimiser state and statistics of activations in `dtype` are kept in this type.
constexpr Dtype accumulation_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

template <class T> struct DtypeOf;
template <> struct DtypeOf<float> { static constexpr Dtype value = Dtype::f32; };
template <> struct DtypeOf<double> { static constexpr Dtype value = Dtype::f64; };
template <> struct DtypeOf<bf16> { static constexpr Dtype value = Dtype::bf16; };
template <> struct DtypeOf<int32_t> { static constexpr Dtype value = Dtype::i32; };
template <> struct DtypeOf<int64_t> { static constexpr Dtype value = Dtype::i64; };
template <> struct DtypeOf<uint8_t> { static constexpr Dtype value = Dtype::u8; };
template <> struct DtypeOf<uint16_t> { static constexpr Dtype value = Dtype::u16; };
template <> struct DtypeOf<uint32_t> { static constexpr Dtype value = Dtype::u32; };

}  // namespace ballast
