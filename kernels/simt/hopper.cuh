// The features of sm_90a: mbarriers and TMA (tma.cuh), wgmma (wgmma.cuh), and the other parts that warp-specialised
// kernels need.
#pragma once

#include "kernels/simt/tma.cuh"
#include "kernels/simt/wgmma.cuh"

/// True when this pass of the compiler has these instructions. A kernel that uses them has its body under #if
/// SIMT_SM90A, because nvcc compiles it for every architecture.
#if BALLAST_SIMT_HOST || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SIMT_SM90A 1
#else
#define SIMT_SM90A 0
#endif

namespace ballast::simt::ptx {

/// The index of the calling warp's warpgroup in the block; the whole warp must call it. The value comes from lane 0, so
/// that ptxas knows that branches on it do not diverge within the warp: in branches that might diverge, ptxas makes
/// wgmma wait for each other.
__device__ __forceinline__ int warpgroup(SIMT_WHERE_ONLY) {
    const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
#if BALLAST_SIMT_HOST
    return __shfl_sync(~0u, group, 0, 32, where);
#else
    return __shfl_sync(~0u, group, 0);
#endif
}

/// True for one lane of the warp; the whole warp must call it. Under the executor it is the lowest lane.
__device__ __forceinline__ bool elect_one(SIMT_WHERE_ONLY) {
#if BALLAST_SIMT_HOST
    return host::lane() == __ffs(static_cast<int>(__ballot_sync(~0u, 1, where))) - 1;
#else
    int elected;
    asm volatile(
        "{\n"
        ".reg .pred one;\n"
        "elect.sync _|one, 0xffffffff;\n"
        "selp.b32 %0, 1, 0, one;\n"
        "}"
        : "=r"(elected));
    return elected != 0;
#endif
}

/// Raises the calling warpgroup to `Registers` registers per thread. Waits until other warpgroups have released enough.
template <int Registers>
__device__ __forceinline__ void take_registers() {
    static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0);
#if !BALLAST_SIMT_HOST
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}

/// Lowers the calling warpgroup to `Registers` registers per thread.
template <int Registers>
__device__ __forceinline__ void give_back_registers() {
    static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0);
#if !BALLAST_SIMT_HOST
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}

}  // namespace ballast::simt::ptx
