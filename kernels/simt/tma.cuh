// PTX of sm_90 and later as functions: mbarriers and TMA. An mbarrier's phase ends when its count of arrivals and
// all the bytes it was told to expect have come. wait(parity) returns when the phase of that parity has ended, so on a
// new barrier wait(1) returns at once and wait(0) blocks. A pipeline stage has two barriers, `full` and `empty`:
//
//   producer:  wait(empty, parity ^ 1)  arrive_expect(full, bytes)  tma_load(tile, map, {c0, c1}, full)
//   consumer:  wait(full, parity)  … reads the tile …  arrive(empty)
#pragma once

#include "kernels/simt/ptx.cuh"
#include "kernels/simt/tensor_map.h"

#if BALLAST_SIMT_HOST
#include "kernels/simt/hopper_host.h"
#endif

namespace ballast::simt::ptx {

/// Eight bytes of shared memory.
using Mbarrier = uint64_t;

/// Call it from one thread. The others may use the barrier after mbarrier_init_fence() and a __syncthreads().
__device__ __forceinline__ void mbarrier_init(Mbarrier* barrier, unsigned arrivals SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    host::mbarrier_init(barrier, arrivals, where);
#else
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
#endif
}

/// Makes the calling thread's mbarrier_init()s visible to TMA.
__device__ __forceinline__ void mbarrier_init_fence() {
#if BALLAST_SIMT_HOST
    host::mbarrier_init_fence();
#else
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void mbarrier_arrive(Mbarrier* barrier SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    host::mbarrier_arrive(barrier, 0, where);
#else
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}

/// One arrival; the phase also waits for `bytes` bytes of TMA loads.
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier* barrier, unsigned bytes SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    host::mbarrier_arrive(barrier, bytes, where);
#else
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
#endif
}

/// Waits for the end of the phase of that parity.
__device__ __forceinline__ void mbarrier_wait(Mbarrier* barrier, unsigned parity SIMT_WHERE) {
#if BALLAST_SIMT_HOST
    host::mbarrier_wait(barrier, parity, where);
#else
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
        "@!ended bra again;\n"
        "}" ::"r"(shared_address(barrier)),
        "r"(parity)
        : "memory");
#endif
}

/// Makes the calling thread's writes to shared memory, and the writes of others that it knows, visible to TMA and
/// wgmma. Every writer calls it before the barrier that lets another thread issue the operation.
__device__ __forceinline__ void fence_proxy_async() {
#if BALLAST_SIMT_HOST
    host::fence_proxy_async();
#else
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// Loads the box whose first element has these coordinates, innermost first; they may be negative. One thread calls it.
template <int Rank>
__device__ __forceinline__ void tma_load(void* tile, const TensorMap& map, const int (&c)[Rank],
                                         Mbarrier* full SIMT_WHERE) {
    static_assert(Rank >= 2 && Rank <= kMaxTensorRank);
#if BALLAST_SIMT_HOST
    host::tensor_copy(host::TensorCopyKind::load, tile, map, c, Rank, full, where);
#else
    const unsigned target = shared_address(tile), barrier = shared_address(full);
    if constexpr (Rank == 2)
        asm volatile(
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::
                "r"(target),
            "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1])
            : "memory");
    else if constexpr (Rank == 3)
        asm volatile(
            "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
            "[%2];" ::"r"(target),
            "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2])
            : "memory");
    else if constexpr (Rank == 4)
        asm volatile(
            "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
            "[%2];" ::"r"(target),
            "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
            : "memory");
    else
        asm volatile(
            "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, "
            "%7}], [%2];" ::"r"(target),
            "l"(&map), "r"(barrier), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3]), "r"(c[4])
            : "memory");
#endif
}

/// Stores a box. The tile must be visible (fence_proxy_async(), then a barrier) and must not change until
/// tma_store_wait_read().
template <int Rank>
__device__ __forceinline__ void tma_store(const TensorMap& map, const int (&c)[Rank], const void* tile SIMT_WHERE) {
    static_assert(Rank >= 2 && Rank <= 4);
#if BALLAST_SIMT_HOST
    host::tensor_copy(host::TensorCopyKind::store, const_cast<void*>(tile), map, c, Rank, nullptr, where);
#else
    const unsigned source = shared_address(tile);
    if constexpr (Rank == 2)
        asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
                     "r"(source), "r"(c[0]), "r"(c[1])
                     : "memory");
    else if constexpr (Rank == 3)
        asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
                     "r"(source), "r"(c[0]), "r"(c[1]), "r"(c[2])
                     : "memory");
    else
        asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
                     "r"(source), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
                     : "memory");
#endif
}

/// Adds an f32 box to the tensor, each element atomically and in no defined order.
template <int Rank>
__device__ __forceinline__ void tma_add(const TensorMap& map, const int (&c)[Rank], const float* tile SIMT_WHERE) {
    static_assert(Rank >= 2 && Rank <= 4);
#if BALLAST_SIMT_HOST
    host::tensor_copy(host::TensorCopyKind::add, const_cast<float*>(tile), map, c, Rank, nullptr, where);
#else
    const unsigned source = shared_address(tile);
    if constexpr (Rank == 2)
        asm volatile(
            "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
            "r"(source), "r"(c[0]), "r"(c[1])
            : "memory");
    else if constexpr (Rank == 3)
        asm volatile(
            "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
            "r"(source), "r"(c[0]), "r"(c[1]), "r"(c[2])
            : "memory");
    else
        asm volatile(
            "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(
                &map),
            "r"(source), "r"(c[0]), "r"(c[1]), "r"(c[2]), "r"(c[3])
            : "memory");
#endif
}

/// Ends a group of the calling thread's stores.
__device__ __forceinline__ void tma_store_commit() {
#if BALLAST_SIMT_HOST
    host::commit_tensor_stores();
#else
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}

/// Waits until at most `Pending` of the calling thread's groups have not read their tiles. Then the tiles may be
/// reused; no thread may exit earlier.
template <int Pending>
__device__ __forceinline__ void tma_store_wait_read() {
#if BALLAST_SIMT_HOST
    host::wait_for_tensor_stores(Pending, true);
#else
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
#endif
}

/// Waits until at most `Pending` of the calling thread's groups are not in global memory.
template <int Pending>
__device__ __forceinline__ void tma_store_wait() {
#if BALLAST_SIMT_HOST
    host::wait_for_tensor_stores(Pending, false);
#else
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

}  // namespace ballast::simt::ptx
