// Shared by mma.sync and wgmma: 16-bit numbers, and A's fragment.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/simt/types.h"

namespace ballast::simt {

struct Bf16 {
    static float value(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
};
struct Fp16 {
    static float value(uint32_t bits) { return __half2float(__ushort_as_half(static_cast<unsigned short>(bits))); }
};
template <class T>
float low(uint32_t pair) {
    return T::value(pair & 0xffff);
}
template <class T>
float high(uint32_t pair) {
    return T::value(pair >> 16);
}

/// A lane's registers of a 16 x 16 A: with g = lane / 4 and t = 2 (lane % 4) they hold A[g][t..], A[g+8][t..],
/// A[g][t+8..] and A[g+8][t+8..], two neighbours each (PTX ISA, "Matrix Fragments for mma.m16n8k16").
template <class T>
void unpack_a(const uint32_t* registers, unsigned lane, float (&a)[16][16]) {
    const unsigned g = lane / 4, t = lane % 4 * 2;
    for (unsigned bottom = 0; bottom < 2; ++bottom)
        for (unsigned right = 0; right < 2; ++right) {
            const uint32_t pair = registers[2 * right + bottom];
            a[g + 8 * bottom][t + 8 * right] = low<T>(pair);
            a[g + 8 * bottom][t + 8 * right + 1] = high<T>(pair);
        }
}

}  // namespace ballast::simt
