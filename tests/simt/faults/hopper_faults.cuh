// The same for sm_90a: small kernels, each right without its fault and wrong with it. Tensors are seen as rows of
// kColumns floats.
#pragma once

#include "kernels/simt/hopper.cuh"
#include "kernels/simt/smem.cuh"
#include "tests/simt/faults/faults.cuh"

namespace ballast::simt::faults {

constexpr int kColumns = 32, kTileRows = kThreads / kColumns;
constexpr unsigned kTileBytes = kThreads * sizeof(float);

// ---- mbarriers and loads --------------------------------------------------------------------------------------------

enum class PipelineFault {
    none,
    no_empty_wait,       ///< the producer overtakes its consumers
    early_release,       ///< consumers give a stage back, then read it
    wrong_bytes,         ///< the producer expects more than it loads
    no_initialisation,   ///< of the mbarriers
    no_init_fence,       ///< between their initialisation and TMA's use of them
    no_barrier_on_init,  ///< between their initialisation and other threads' use of them
};

/// y = x, four tiles a block through two stages: the last warp loads, the others copy out.
template <PipelineFault Fault>
__global__ void pipeline(const __grid_constant__ TensorMap, const __grid_constant__ TensorMap x_map, float* y) {
    constexpr int kTurns = 4, kStages = 2, kConsumers = kThreads - 32;
    Smem smem;
    float* tiles = smem.take<float>(kStages * kThreads, 128);
    SIMT_SHARED(ptx::Mbarrier, full, [kStages]);
    SIMT_SHARED(ptx::Mbarrier, empty, [kStages]);
    const auto i = static_cast<int>(threadIdx.x), first = static_cast<int>(blockIdx.x) * kTurns;
    if (Fault != PipelineFault::no_initialisation && i == 0) {
        for (int stage = 0; stage < kStages; ++stage) {
            ptx::mbarrier_init(&full[stage], 1);
            ptx::mbarrier_init(&empty[stage], kConsumers);
        }
        if constexpr (Fault != PipelineFault::no_init_fence) ptx::mbarrier_init_fence();
    }
    if constexpr (Fault != PipelineFault::no_barrier_on_init) __syncthreads();
    for (int turn = 0; turn < kTurns; ++turn) {
        const int stage = turn % kStages;
        const auto parity = static_cast<unsigned>(turn / kStages % 2);
        float* tile = tiles + stage * kThreads;
        if (i == kConsumers) {
            if constexpr (Fault != PipelineFault::no_empty_wait) ptx::mbarrier_wait(&empty[stage], parity ^ 1);
            ptx::mbarrier_arrive_expect(&full[stage], kTileBytes * (Fault == PipelineFault::wrong_bytes ? 2 : 1));
            ptx::tma_load(tile, x_map, {0, (first + turn) * kTileRows}, &full[stage]);
        } else if (i < kConsumers) {
            ptx::mbarrier_wait(&full[stage], parity);
            if constexpr (Fault == PipelineFault::early_release) ptx::mbarrier_arrive(&empty[stage]);
            for (int j = i; j < kThreads; j += kConsumers) y[(first + turn) * kThreads + j] = tile[j];
            if constexpr (Fault != PipelineFault::early_release) ptx::mbarrier_arrive(&empty[stage]);
        }
    }
}

/// y = x, each tile loaded twice; the fault ends the block without a wait for the second.
template <bool Fault>
__global__ void load_without_wait(const __grid_constant__ TensorMap, const __grid_constant__ TensorMap x_map,
                                  float* y) {
    Smem smem;
    float* tiles = smem.take<float>(2 * kThreads, 128);
    SIMT_SHARED(ptx::Mbarrier, full, [2]);
    const auto i = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    if (i == 0) {
        for (int turn = 0; turn < 2; ++turn) ptx::mbarrier_init(&full[turn], 1);
        ptx::mbarrier_init_fence();
        for (int turn = 0; turn < 2; ++turn) {
            ptx::mbarrier_arrive_expect(&full[turn], kTileBytes);
            ptx::tma_load(tiles + turn * kThreads, x_map, {0, block * kTileRows}, &full[turn]);
        }
    }
    __syncthreads();
    for (int turn = 0; turn < (Fault ? 1 : 2); ++turn) ptx::mbarrier_wait(&full[turn], 0);
    y[block * kThreads + i] = tiles[i];
}

// ---- stores ---------------------------------------------------------------------------------------------------------

enum class StoreFault {
    none,
    no_proxy_fence,    ///< TMA may not see what threads wrote
    no_barrier,        ///< nor what others write later
    no_wait,           ///< the block ends while TMA reads its memory
    overwritten_tile,  ///< the next tile is written while TMA reads the last
};

/// y = x, two tiles a block through one buffer.
template <StoreFault Fault>
__global__ void store(const __grid_constant__ TensorMap y_map, const __grid_constant__ TensorMap, const float* x) {
    Smem smem;
    float* tile = smem.take<float>(2 * kThreads, 128);
    const auto i = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    for (int turn = 0; turn < 2; ++turn) {
        tile[i] = x[(2 * block + turn) * kThreads + i];
        if constexpr (Fault != StoreFault::no_proxy_fence) ptx::fence_proxy_async();
        if constexpr (Fault != StoreFault::no_barrier) __syncthreads();
        if (i == 0) {
            ptx::tma_store(y_map, {0, (2 * block + turn) * kTileRows}, tile);
            ptx::tma_store_commit();
            const bool forgets =
                (Fault == StoreFault::no_wait && turn == 1) || (Fault == StoreFault::overwritten_tile && turn == 0);
            if (!forgets) ptx::tma_store_wait_read<0>();
        }
        __syncthreads();
    }
}

// ---- wgmma ----------------------------------------------------------------------------------------------------------

enum class WgmmaFault {
    none,
    no_proxy_fence,       ///< wgmma may not see what threads wrote
    no_barrier,           ///< nor what others write later
    no_fence,             ///< of the registers
    late_wait,            ///< accumulators are used before the wait
    no_wait,              ///< there is none
    changed_registers,    ///< A's, before the wait
    overwritten_operand,  ///< in shared memory, before the wait
};

/// y (64 x 8 of a block's first 4 x 128) = the first 64 rows of x (16 columns a row) times 8 columns of the unit
/// matrix.
template <WgmmaFault Fault>
__global__ void product(float* y, const float* x) {
    constexpr int kRows = 64, kK = 16, kN = 8;
    Smem smem;
    auto* b_tile = smem.take<__nv_bfloat16>(kN * kK, 128);  // two unswizzled chunks of 8 columns by 8 k
    const auto i = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
    b_tile[i] = __float2bfloat16(i % 8 == i / 8 % 8 && i < 64 ? 1.0f : 0.0f);
    if constexpr (Fault != WgmmaFault::no_proxy_fence) ptx::fence_proxy_async();
    if constexpr (Fault != WgmmaFault::no_barrier) __syncthreads();
    uint32_t a[4];
    for (int j = 0; j < 4; ++j) {
        const float* pair = x + (block * kRows + ptx::accumulator_row(2 * j)) * kK + ptx::accumulator_column(2 * j);
        a[j] = ptx::pack<__nv_bfloat16>(pair[0], pair[1]);
    }
    float d[kN / 2], early = 0;
    if constexpr (Fault != WgmmaFault::no_fence) ptx::wgmma_fence();
    ptx::wgmma<__nv_bfloat16>(d, a, ptx::matrix_descriptor(b_tile, Swizzle::none, 128, 128), false);
    ptx::wgmma_commit();
    if constexpr (Fault == WgmmaFault::changed_registers) a[0] = 0;
    if constexpr (Fault == WgmmaFault::overwritten_operand) b_tile[i] = __float2bfloat16(0.0f);
    if constexpr (Fault == WgmmaFault::late_wait) early = d[0];
    if constexpr (Fault != WgmmaFault::no_wait) ptx::wgmma_wait<0>();
    if constexpr (Fault == WgmmaFault::late_wait) d[0] = early;
    for (int j = 0; j < kN / 2; ++j)
        y[(block * kRows + ptx::accumulator_row(j)) * kN + ptx::accumulator_column(j)] = d[j];
}

}  // namespace ballast::simt::faults
