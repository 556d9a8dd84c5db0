// Everything of sm_90a: mbarriers and TMA (tma.cuh), wgmma (wgmma.cuh), and what warp-specialised kernels need besides.
#pragma once

#include "kernels/simt/tma.cuh"
#include "kernels/simt/wgmma.cuh"

/// Whether this pass of the compiler has these instructions. The body of a kernel made of them stands under
/// #if SIMT_SM90A, since nvcc compiles it for every architecture.
#if BALLAST_SIMT_HOST || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SIMT_SM90A 1
#else
#define SIMT_SM90A 0
#endif

namespace ballast::simt::ptx {

/// Which warpgroup of the block the calling warp is in; all of the warp is here. From lane 0, so that ptxas knows that
/// branches on it do not part the warp: it makes wgmma wait for each other in branches that might.
__device__ __forceinline__ int warpgroup(SIMT_WHERE_ONLY) {
    const int group = static_cast<int>(threadIdx.x) / kWarpgroup;
#if BALLAST_SIMT_HOST
    return __shfl_sync(~0u, group, 0, 32, where);
#else
    return __shfl_sync(~0u, group, 0);
#endif
}

/// True for one lane of the warp, which must be here as a whole. Under the executor it is the lowest.
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

/// The calling warpgroup's threads get `Registers` registers each; it waits until others have given enough back.
template <int Registers>
__device__ __forceinline__ void take_registers() {
    static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0);
#if !BALLAST_SIMT_HOST
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}

/// The calling warpgroup's threads keep `Registers` registers each.
template <int Registers>
__device__ __forceinline__ void give_back_registers() {
    static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0);
#if !BALLAST_SIMT_HOST
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
#endif
}

}  // namespace ballast::simt::ptx
