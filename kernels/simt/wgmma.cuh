// wgmma (sm_90a) as functions: four warps multiply D (64 x N, f32) = A (64 x 16) B (16 x N) [+ D]. A is in shared
// memory or registers, B in shared memory, both bf16 or fp16. The multiplication is asynchronous:
//
//   wgmma_fence();  wgmma<bf16>(d, a, b, false);  wgmma<bf16>(d, a', b', true);  wgmma_commit();  wgmma_wait<0>();
//
// Until the wait, d, A's registers and the tiles must not be touched. All four warps must make every call together.
#pragma once

#include "kernels/simt/ptx.cuh"
#include "kernels/simt/tensor_map.h"

#if BALLAST_SIMT_HOST
#include "kernels/simt/hopper_host.h"
#else
#include "kernels/simt/wgmma_asm.cuh"
#endif

namespace ballast::simt::ptx {

// ---- operands in shared memory: PTX ISA, "Shared Memory Matrix Layout" ----------------------------------------------

/// Which dimension of an operand is contiguous: k, or m (of A) and n (of B).
enum class Major { k, mn };

/// The descriptor of an operand tile, aligned to tile_alignment(swizzle). With span = swizzle_span(swizzle), mn the row
/// of A or column of B, all in bytes:
///   k-major   swizzled   rows of one span, 8 of them dense; `stride` from 8 mn to the next 8; `leading` unused
///   mn-major  swizzled   for each k a row of one span, 8 dense; `stride` from 8 k to the next 8; `leading` from one
///                        span of mn to the next
///   k-major   unswizzled 8 mn of 8 k each (16 bytes), dense; `stride` to the next 8 mn; `leading` to the next 8 k
///   mn-major  unswizzled 8 k of 8 mn each, dense; `stride` to the next 8 mn; `leading` to the next 8 k
__device__ __forceinline__ uint64_t matrix_descriptor(const void* tile, Swizzle swizzle, unsigned leading,
                                                      unsigned stride SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    const unsigned address = shared_address(tile, where);
    if (address % (swizzle == Swizzle::none ? 16 : tile_alignment(swizzle)) != 0)
        host::fail_at("wgmma: a tile is not aligned to its swizzle's pattern", where);
    if (address >= 1u << 18) host::fail_at("wgmma: a tile begins beyond 256 KiB of shared memory", where);
#else
    const unsigned address = shared_address(tile);
#endif
    const auto encode = [](unsigned bytes) { return static_cast<uint64_t>((bytes & 0x3ffff) >> 4); };
    const unsigned mode = (4 - static_cast<unsigned>(swizzle)) % 4;  // 1: 128 bytes, 2: 64, 3: 32
    return encode(address) | encode(leading) << 16 | encode(stride) << 32 | uint64_t{mode} << 62;
}

/// A swizzled tile whose rows along k are one span: what TMA writes for a box of span x rows.
__device__ __forceinline__ uint64_t k_major_descriptor(const void* tile, Swizzle swizzle SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    return matrix_descriptor(tile, swizzle, 16, 8 * swizzle_span(swizzle), where);
#else
    return matrix_descriptor(tile, swizzle, 16, 8 * swizzle_span(swizzle));
#endif
}

/// A swizzled tile whose rows along m or n are one span, `k_rows` of them before the next span of m or n begins: what
/// TMA writes for boxes of span x k_rows.
__device__ __forceinline__ uint64_t mn_major_descriptor(const void* tile, Swizzle swizzle, unsigned k_rows SIMT_WHERE) {
    const unsigned span = swizzle_span(swizzle);
#if BALLAST_SIMT_HOST
    return matrix_descriptor(tile, swizzle, k_rows * span, 8 * span, where);
#else
    return matrix_descriptor(tile, swizzle, k_rows * span, 8 * span);
#endif
}

/// The descriptor of the same tile from `bytes` bytes on: 16 columns of k are 32 bytes further in a k-major tile, and
/// 16 spans further in an mn-major tile.
__device__ __forceinline__ uint64_t advance(uint64_t descriptor, unsigned bytes) { return descriptor + (bytes >> 4); }

// ---- registers ------------------------------------------------------------------------------------------------------

inline constexpr int kWarpgroup = 128;  // threads

/// Where accumulator i of the calling thread is in D.
__device__ __forceinline__ int accumulator_row(int i) {
    return static_cast<int>(threadIdx.x % kWarpgroup / 32 * 16 + threadIdx.x % 32 / 4) + i / 2 % 2 * 8;
}
__device__ __forceinline__ int accumulator_column(int i) {
    return static_cast<int>(threadIdx.x % 4 * 2) + i / 4 * 8 + i % 2;
}

/// Columns 16 step … 16 step + 15 of an accumulator, rounded to T, as A's registers of another product.
template <class T, int Registers>
__device__ __forceinline__ void to_operand(uint32_t (&a)[4], const float (&d)[Registers], int step) {
    SIMT_UNROLL
    for (int i = 0; i < 4; ++i) a[i] = pack<T>(d[8 * step + 2 * i], d[8 * step + 2 * i + 1]);
}

/// A fence for the compiler: it does not move reads or writes of d across it. Call it before the first product into d
/// and after the wait.
template <int Registers>
__device__ __forceinline__ void pin_registers(float (&d)[Registers]) {
#if BALLAST_SIMT_HOST
    static_cast<void>(d);
#else
    SIMT_UNROLL
    for (int i = 0; i < Registers; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

/// The same for operands A, after they are written: a product reads its registers until the wait.
template <int Steps>
__device__ __forceinline__ void pin_registers(uint32_t (&a)[Steps][4]) {
#if BALLAST_SIMT_HOST
    static_cast<void>(a);
#else
    SIMT_UNROLL
    for (int step = 0; step < Steps; ++step) SIMT_UNROLL
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[step][i])::"memory");
#endif
}

// ---- products -------------------------------------------------------------------------------------------------------

/// Call it before the first product, and between an access to d or A's registers and the next product that uses them.
__device__ __forceinline__ void wgmma_fence(SIMT_WHERE_ONLY) {
#if BALLAST_SIMT_HOST
    host::wgmma_fence(where);
#else
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

/// d = A B, or d + A B with `accumulate`: A and B in T (bf16 or fp16) given by descriptors, N = 2 Registers.
template <class T, Major A = Major::k, Major B = Major::k, int Registers>
__device__ __forceinline__ void wgmma(float (&d)[Registers], uint64_t a, uint64_t b, bool accumulate SIMT_WHERE) {
    static_assert(std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __half>);
    static_assert(Registers % 4 == 0 && Registers <= 128, "N is a multiple of 8, at most 256");
#if BALLAST_SIMT_HOST
    host::wgmma(
        {d, nullptr, a, b, 2 * Registers, std::is_same_v<T, __half>, A == Major::mn, B == Major::mn, accumulate},
        where);
#else
    detail::wgmma_shared<T, A == Major::mn, B == Major::mn>(d, a, b, accumulate);
#endif
}

/// The same with A in registers, laid out as for mma_m16n8k16 with 16 rows for each warp.
template <class T, Major B = Major::k, int Registers>
__device__ __forceinline__ void wgmma(float (&d)[Registers], const uint32_t (&a)[4], uint64_t b,
                                      bool accumulate SIMT_WHERE) {
    static_assert(std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __half>);
    static_assert(Registers % 4 == 0 && Registers <= 128, "N is a multiple of 8, at most 256");
#if BALLAST_SIMT_HOST
    host::wgmma({d, a, 0, b, 2 * Registers, std::is_same_v<T, __half>, false, B == Major::mn, accumulate}, where);
#else
    detail::wgmma_registers<T, B == Major::mn>(d, a, b, accumulate);
#endif
}

/// Ends a group of products.
__device__ __forceinline__ void wgmma_commit(SIMT_WHERE_ONLY) {
#if BALLAST_SIMT_HOST
    host::wgmma_commit(where);
#else
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/// Waits until at most `Pending` groups are not complete.
template <int Pending>
__device__ __forceinline__ void wgmma_wait(SIMT_WHERE_ONLY) {
#if BALLAST_SIMT_HOST
    host::wgmma_wait(Pending, where);
#else
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#endif
}

}  // namespace ballast::simt::ptx
