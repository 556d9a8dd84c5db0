// The host functions that tma.cuh and wgmma.cuh call: the executor's asynchronous part, defined in runtime/.
#pragma once

#include "kernels/simt/host.h"
#include "kernels/simt/tensor_map.h"

namespace ballast::simt {

/// The operands of a lane for a wgmma: D (64 x n, f32) = A (64 x 16) B (16 x n) [+ D].
struct WarpgroupProduct {
    float* d;                     ///< n / 2 accumulators of the lane
    const uint32_t* a_registers;  ///< 4 registers of A, or nullptr when A is in shared memory
    uint64_t a, b;                ///< descriptors
    int n;
    bool half, a_mn_major, b_mn_major, accumulate;

    /// True when the lanes of a warp, or the warps of a group, issue the same operation.
    bool agrees_with(const WarpgroupProduct& other) const {
        return (a_registers == nullptr) == (other.a_registers == nullptr) && a == other.a && b == other.b &&
               n == other.n && half == other.half && a_mn_major == other.a_mn_major && b_mn_major == other.b_mn_major &&
               accumulate == other.accumulate;
    }
};

namespace host {

void mbarrier_init(uint64_t* barrier, unsigned count, Location);
void mbarrier_init_fence();
void mbarrier_arrive(uint64_t* barrier, unsigned expected_bytes, Location);
void mbarrier_wait(uint64_t* barrier, unsigned parity, Location);
void fence_proxy_async();

enum class TensorCopyKind { load, store, add };
/// `barrier` is for loads.
void tensor_copy(TensorCopyKind, void* tile, const TensorMap&, const int* coordinates, int rank, uint64_t* barrier,
                 Location);
void commit_tensor_stores();
/// Waits until at most `groups_to_keep` of the thread's groups are pending; `read`: only until they have read their
/// tiles.
void wait_for_tensor_stores(unsigned groups_to_keep, bool read);

void wgmma(const WarpgroupProduct&, Location);
void wgmma_fence(Location);
void wgmma_commit(Location);
void wgmma_wait(unsigned groups_to_keep, Location);

}  // namespace host
}  // namespace ballast::simt
