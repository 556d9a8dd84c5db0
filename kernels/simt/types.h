// CUDA's data types for g++, where there is no CUDA toolkit: what kernels use of vector_types.h, cuda_bf16.h and
// cuda_fp16.h, under the same (global) names. Names and semantics after the CUDA Math API reference. Not here: `half`
// and `half2`, since any variable called half would shadow them; roundings other than to nearest; what needs a device.
#pragma once

#if defined(__CUDA_BF16_H__) || defined(__CUDA_FP16_H__) || defined(__VECTOR_TYPES_H__)
#error "kernels/simt/types.h replaces NVIDIA's cuda_bf16.h, cuda_fp16.h and vector_types.h: include one or the other"
#else

#include <cstdint>

#include "kernels/simt/float16.h"
#include "kernels/simt/vector_types.h"

typedef struct CUstream_st* cudaStream_t;

using __nv_bfloat16 = ballast::simt::Float16<8>;
using __nv_bfloat162 = ballast::simt::Float16Pair<__nv_bfloat16>;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;
using __half = ballast::simt::Float16<5>;
using __half2 = ballast::simt::Float16Pair<__half>;

constexpr __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return __nv_bfloat16::from_bits(bits); }
constexpr unsigned short __bfloat16_as_ushort(__nv_bfloat16 a) { return a.bits(); }
constexpr __nv_bfloat16 __short_as_bfloat16(short bits) {
    return __nv_bfloat16::from_bits(static_cast<uint16_t>(bits));
}
constexpr short __bfloat16_as_short(__nv_bfloat16 a) { return static_cast<short>(a.bits()); }

constexpr __nv_bfloat16 __float2bfloat16(float a) { return a; }
constexpr __nv_bfloat16 __float2bfloat16_rn(float a) { return a; }
constexpr __nv_bfloat16 __double2bfloat16(double a) { return a; }
constexpr float __bfloat162float(__nv_bfloat16 a) { return a; }

constexpr __nv_bfloat162 make_bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) { return {low, high}; }
constexpr __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 low, __nv_bfloat16 high) { return {low, high}; }
constexpr __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 a) { return {a, a}; }
constexpr __nv_bfloat162 __float2bfloat162_rn(float a) { return {a, a}; }
constexpr __nv_bfloat162 __floats2bfloat162_rn(float low, float high) { return {low, high}; }
constexpr __nv_bfloat162 __float22bfloat162_rn(float2 a) { return {a.x, a.y}; }
constexpr float2 __bfloat1622float2(__nv_bfloat162 a) { return {a.x, a.y}; }
constexpr __nv_bfloat16 __low2bfloat16(__nv_bfloat162 a) { return a.x; }
constexpr __nv_bfloat16 __high2bfloat16(__nv_bfloat162 a) { return a.y; }

constexpr __half __ushort_as_half(unsigned short bits) { return __half::from_bits(bits); }
constexpr unsigned short __half_as_ushort(__half a) { return a.bits(); }
constexpr __half __short_as_half(short bits) { return __half::from_bits(static_cast<uint16_t>(bits)); }
constexpr short __half_as_short(__half a) { return static_cast<short>(a.bits()); }

constexpr __half __float2half(float a) { return a; }
constexpr __half __float2half_rn(float a) { return a; }
constexpr __half __double2half(double a) { return a; }
constexpr float __half2float(__half a) { return a; }

constexpr __half2 make_half2(__half low, __half high) { return {low, high}; }
constexpr __half2 __halves2half2(__half low, __half high) { return {low, high}; }
constexpr __half2 __half2half2(__half a) { return {a, a}; }
constexpr __half2 __float2half2_rn(float a) { return {a, a}; }
constexpr __half2 __floats2half2_rn(float low, float high) { return {low, high}; }
constexpr __half2 __float22half2_rn(float2 a) { return {a.x, a.y}; }
constexpr float2 __half22float2(__half2 a) { return {a.x, a.y}; }
constexpr __half __low2half(__half2 a) { return a.x; }
constexpr __half __high2half(__half2 a) { return a.y; }

#endif
