// PTX of sm_80 and later as functions: ex2, mma.sync, ldmatrix, cp.async, named barriers. On the device each is one asm
// statement; the host version has the same effect on the same lanes. tests/simt/ compares the host version with a plain
// double loop; scripts/gpu_check.sh compares the two on a GPU.
#pragma once

#include "kernels/simt/simt.cuh"

#if BALLAST_SIMT_HOST
#define SIMT_WHERE_ONLY ::ballast::simt::Location where = ::ballast::simt::Location::current()
#define SIMT_WHERE , SIMT_WHERE_ONLY
#else
#define SIMT_WHERE_ONLY
#define SIMT_WHERE
#endif

namespace ballast::simt::ptx {

/// An address in shared memory in the form that PTX needs.
__device__ __forceinline__ unsigned shared_address(const void* p SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    return host::shared_offset(p, where);
#else
    return static_cast<unsigned>(__cvta_generic_to_shared(p));
#endif
}

/// Two floats rounded to bf16 (or fp16) in one register, `low` in the lower half.
template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t pair;
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
        memcpy(&pair, &v, sizeof pair);
    } else {
        const __half2 v = __floats2half2_rn(low, high);
        memcpy(&pair, &v, sizeof pair);
    }
    return pair;
}

/// x, opaque to the compiler: values computed from it inside a loop are computed there, instead of occupying registers
/// through the whole loop.
__device__ __forceinline__ int opaque(int x) {
#if !BALLAST_SIMT_HOST
    asm volatile("" : "+r"(x));
#endif
    return x;
}

/// 2^x by one instruction, with a relative error of about 2^-22; results below 2^-126 are 0.
__device__ __forceinline__ float exp2_approximate(float x) {
#if BALLAST_SIMT_HOST
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : y;
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

/// 1 / x by one instruction, with a relative error of about 2^-23; subnormal x and results are 0.
__device__ __forceinline__ float reciprocal_approximate(float x) {
#if BALLAST_SIMT_HOST
    const float y = 1 / (std::abs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x);
    return std::abs(y) < 0x1p-126f ? std::copysign(0.0f, y) : y;
#else
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// ---- tensor cores ---------------------------------------------------------------------------------------------------

/// d = a b + c for one m16n8k16 tile of the warp: a and b in T (bf16 or fp16), c and d in f32. Fragments: PTX ISA,
/// "Matrix Fragments for mma.m16n8k16".
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                             const float (&c)[4] SIMT_WHERE) {
    static_assert(std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __half>);
#if BALLAST_SIMT_HOST
    if constexpr (std::is_same_v<T, __nv_bfloat16>)
        host::mma_bf16(d, a, b, c, where);
    else
        host::mma_fp16(d, a, b, c, where);
#else
    if constexpr (std::is_same_v<T, __nv_bfloat16>)
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%10,%11,%12,%13};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]),
              "f"(c[3]));
    else
        asm volatile(
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%10,%11,%12,%13};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]),
              "f"(c[3]));
#endif
}

#if BALLAST_SIMT_HOST
namespace detail {

/// Each lane reads the data it receives, so that a sanitizer names the right thread. With g = lane / 4, t = lane % 4 it
/// gets row g's pair t of each 8 x 8 matrix, or, transposed, column g's rows 2t and 2t + 1.
template <int Matrices, bool Transposed>
void ldmatrix(uint32_t (&r)[Matrices], const void* row, Location where) {
    if (reinterpret_cast<uintptr_t>(row) % 16 != 0) host::fail_at("ldmatrix: a row is not 16-byte aligned", where);
    host::shared_offset(row, where);
    const void* rows[32];
    host::gather_rows(row, rows, Matrices, where);
    const int lane = host::lane(), g = lane / 4, t = lane % 4;
    for (int m = 0; m < Matrices; ++m) {
        if constexpr (Transposed) {
            const uint32_t low = static_cast<const uint16_t*>(rows[8 * m + 2 * t])[g];
            const uint32_t high = static_cast<const uint16_t*>(rows[8 * m + 2 * t + 1])[g];
            r[m] = low | high << 16;
        } else {
            r[m] = static_cast<const uint32_t*>(rows[8 * m + g])[t];
        }
    }
}

}  // namespace detail
#endif

/// Four 8 x 8 matrices of 16-bit elements from shared memory: lane l passes the address of row l % 8 of matrix l / 8;
/// rows are 16 bytes and aligned to that.
template <bool Transposed>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    detail::ldmatrix<4, Transposed>(r, row, where);
#else
    const unsigned address = shared_address(row);
    if constexpr (Transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
#endif
}

/// Two matrices; lanes 16 to 31 pass valid addresses that are not read.
template <bool Transposed>
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    detail::ldmatrix<2, Transposed>(r, row, where);
#else
    const unsigned address = shared_address(row);
    if constexpr (Transposed)
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(address)
                     : "memory");
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(address)
                     : "memory");
#endif
}

// ---- asynchronous copies --------------------------------------------------------------------------------------------

#if BALLAST_SIMT_HOST
namespace detail {

/// The part of a copy that accesses memory is compiled with the kernel, so that sanitizers see it.
inline void perform(const AsyncCopy& copy) {
    char* target = static_cast<char*>(copy.target);
    const char* source = static_cast<const char*>(copy.source);
    for (unsigned i = 0; i < copy.bytes; i += 4) {
        uint32_t word = 0;
        if (i < copy.source_bytes) word = *reinterpret_cast<const uint32_t*>(source + i);
        *reinterpret_cast<uint32_t*>(target + i) = word;
    }
}

}  // namespace detail
#endif

/// Starts a copy of 16 bytes from global to shared memory. Without `valid` it writes zeros and reads nothing.
__device__ __forceinline__ void cp_async_16(void* target, const void* source, bool valid = true SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    if ((reinterpret_cast<uintptr_t>(target) | reinterpret_cast<uintptr_t>(source)) % 16 != 0)
        host::fail_at("cp.async: an address is not 16-byte aligned", where);
    host::shared_offset(target, where);
    const AsyncCopy copy{target, source, 16, valid ? 16u : 0u};
    if (options().late_copies) {
        for (int i = 0; i < 4; ++i) static_cast<uint32_t*>(target)[i] = 0xffffffffu;  // NaN until the wait
        host::push_copy(copy);
    } else {
        detail::perform(copy);
    }
#else
    const unsigned address = shared_address(target);
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(source), "r"(bytes) : "memory");
#endif
}

/// Ends a group of copies.
__device__ __forceinline__ void cp_async_commit() {
#if BALLAST_SIMT_HOST
    host::commit_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most `Pending` of the calling thread's groups are incomplete. Other threads see the data after a
/// barrier.
template <int Pending>
__device__ __forceinline__ void cp_async_wait() {
#if BALLAST_SIMT_HOST
    AsyncCopy copy;
    while (host::pop_copy(Pending, copy)) detail::perform(copy);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

// ---- named barriers: `id` 1 to 15; `threads` a multiple of 32 -------------------------------------------------------

__device__ __forceinline__ void named_barrier_wait(int id, unsigned threads SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    host::barrier_wait(id, threads, 0, where);
#else
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

__device__ __forceinline__ void named_barrier_arrive(int id, unsigned threads SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    host::barrier_arrive(id, threads, where);
#else
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

}  // namespace ballast::simt::ptx
