// Dynamic shared memory, divided into arrays. The host and the kernel make the same takes in the same order:
//
//   constexpr SmemPlan kPlan = SmemPlan().take<bf16>(64 * 64).take<float>(128);      // launch(…, kPlan.shared(), …)
//   Smem smem;  bf16* tile = smem.take<bf16>(64 * 64);  float* sums = smem.take<float>(128);   // in the kernel
//
// Under the executor a poisoned gap follows each array, so that AddressSanitizer detects an overrun.
#pragma once

#include "kernels/simt/simt.cuh"

namespace ballast::simt {

#if BALLAST_SIMT_HOST
inline constexpr size_t kSmemGap = 64;
#else
inline constexpr size_t kSmemGap = 0;
#endif

/// Where the next array of a block's shared memory begins and ends.
struct SmemCursor {
    size_t used = 0, gaps = 0;

    __host__ __device__ constexpr size_t take(size_t bytes, size_t alignment) {
        const size_t begin = (used + alignment - 1) / alignment * alignment;
        used = begin + bytes + kSmemGap;
        gaps += kSmemGap;
        return begin;
    }
};

class SmemPlan {
  public:
    template <class T>
    constexpr SmemPlan take(size_t count, size_t alignment = 16) const {
        SmemPlan next = *this;
        next.cursor_.take(count * sizeof(T), alignment);
        return next;
    }
    constexpr SharedBytes shared() const {
#if BALLAST_SIMT_HOST
        return {cursor_.used, cursor_.gaps};
#else
        return {cursor_.used};
#endif
    }

  private:
    SmemCursor cursor_;
};

class Smem {
  public:
    /// `count` elements of T; alignment 128 for tiles that TMA writes, 1024 for 128-byte swizzled tiles.
    template <class T>
    __device__ __forceinline__ T* take(size_t count, size_t alignment = 16) {
        const size_t begin = cursor_.take(count * sizeof(T), alignment);
#if BALLAST_SIMT_HOST
        char* base = static_cast<char*>(host::dynamic_shared_memory());
        host::poison_gap(base + begin + count * sizeof(T), kSmemGap);
#else
        extern __shared__ __align__(1024) unsigned char base[];
#endif
        return reinterpret_cast<T*>(base + begin);
    }

  private:
    SmemCursor cursor_;
};

}  // namespace ballast::simt
