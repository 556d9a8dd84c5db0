// Kernels that do one thing of hopper.cuh each, for tests against plain loops.
#pragma once

#include "kernels/simt/hopper.cuh"
#include "kernels/simt/smem.cuh"

namespace ballast::test {

using namespace ballast::simt;

// ---- wgmma ----------------------------------------------------------------------------------------------------------

/// The layout of an operand tile in shared memory, and how a kernel walks along k.
struct OperandTile {
    Swizzle swizzle;
    unsigned leading, stride;  ///< of the descriptor
    unsigned bytes;            ///< of the tile
    unsigned steps_per_block;  ///< steps of 16 k before the next block of the tile
    unsigned step, block;      ///< bytes
};

__device__ inline uint64_t descriptor_of(const char* tile, const OperandTile& t, unsigned step) {
    const uint64_t first = ptx::matrix_descriptor(tile, t.swizzle, t.leading, t.stride);
    return ptx::advance(first, step / t.steps_per_block * t.block + step % t.steps_per_block * t.step);
}

__device__ inline void copy_image(char* tile, const char* image, unsigned bytes) {
    for (unsigned i = threadIdx.x * 4; i < bytes; i += blockDim.x * 4)
        *reinterpret_cast<uint32_t*>(tile + i) = *reinterpret_cast<const uint32_t*>(image + i);
}

inline constexpr int kProductRows = 128;  // two warpgroups
inline constexpr int kProductK = 64;

struct ProductArguments {
    float* d;             ///< [kProductRows][N], in and out
    const char* a_image;  ///< of both warpgroups' tiles
    const char* b_image;
    const void* a;  ///< [kProductRows][kProductK], for A in registers
    OperandTile a_tile, b_tile;
    unsigned a_offset = 0, b_offset = 0, shared_bytes = 0;  ///< where the tiles are in shared memory
};

/// d += a b, K = kProductK.
template <class T, int N, ptx::Major A, ptx::Major B, bool InRegisters>
__global__ void __launch_bounds__(256) product_kernel(const ProductArguments x) {
    Smem smem;
    char* memory = smem.take<char>(x.shared_bytes, 1024);
    char* a_tiles = memory + x.a_offset;
    char* b_tile = memory + x.b_offset;
    copy_image(a_tiles, x.a_image, 2 * x.a_tile.bytes);
    copy_image(b_tile, x.b_image, x.b_tile.bytes);
    ptx::fence_proxy_async();
    __syncthreads();

    const char* a_tile = a_tiles + static_cast<unsigned>(ptx::warpgroup()) * x.a_tile.bytes;
    const auto row = [&](int i) { return ptx::warpgroup() * 64 + ptx::accumulator_row(i); };
    float d[N / 2];
    for (int i = 0; i < N / 2; ++i) d[i] = x.d[row(i) * N + ptx::accumulator_column(i)];
    uint32_t a[kProductK / 16][4];
    if (InRegisters)
        for (int step = 0; step < kProductK / 16; ++step)
            for (int i = 0; i < 4; ++i) {  // pairs of neighbours lie as an accumulator's do
                const int column = 16 * step + ptx::accumulator_column(2 * i);
                memcpy(&a[step][i], static_cast<const T*>(x.a) + row(2 * i) * kProductK + column, 4);
            }
    ptx::pin_registers(d);
    ptx::wgmma_fence();
    SIMT_UNROLL
    for (unsigned step = 0; step < kProductK / 16; ++step) {
        const uint64_t b = descriptor_of(b_tile, x.b_tile, step);
        if constexpr (InRegisters)
            ptx::wgmma<T, B>(d, a[step], b, true);
        else
            ptx::wgmma<T, A, B>(d, descriptor_of(a_tile, x.a_tile, step), b, true);
    }
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin_registers(d);
    for (int i = 0; i < N / 2; ++i) x.d[row(i) * N + ptx::accumulator_column(i)] = d[i];
}

/// y = (a b) b with two groups under way: y's operand A is made of the first product's accumulators. 64 x 64 all.
template <class T>
__global__ void __launch_bounds__(128) chained_products_kernel(float* y, const char* a_image, const char* b_image) {
    Smem smem;
    char* a_tile = smem.take<char>(64 * 128, 1024);
    char* b_tile = smem.take<char>(64 * 128, 1024);
    copy_image(a_tile, a_image, 64 * 128);
    copy_image(b_tile, b_image, 64 * 128);
    ptx::fence_proxy_async();
    __syncthreads();
    const uint64_t a = ptx::k_major_descriptor(a_tile, Swizzle::bytes_128);
    const uint64_t b = ptx::mn_major_descriptor(b_tile, Swizzle::bytes_128, 64);
    float product[32], other[32], result[32];
    ptx::wgmma_fence();
    SIMT_UNROLL
    for (unsigned step = 0; step < 4; ++step)
        ptx::wgmma<T, ptx::Major::k, ptx::Major::mn>(product, ptx::advance(a, 32 * step), ptx::advance(b, 2048 * step),
                                                     step > 0);
    ptx::wgmma_commit();
    ptx::wgmma<T, ptx::Major::k, ptx::Major::mn>(other, a, b, false);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    ptx::pin_registers(product);
    uint32_t operand[4][4];
    SIMT_UNROLL
    for (int step = 0; step < 4; ++step) ptx::to_operand<T>(operand[step], product, step);
    ptx::wgmma_fence();
    SIMT_UNROLL
    for (unsigned step = 0; step < 4; ++step)
        ptx::wgmma<T, ptx::Major::mn>(result, operand[step], ptx::advance(b, 2048 * step), step > 0);
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    ptx::pin_registers(result);
    for (int i = 0; i < 32; ++i) y[ptx::accumulator_row(i) * 64 + ptx::accumulator_column(i)] = result[i];
}

// ---- TMA ------------------------------------------------------------------------------------------------------------

template <int Rank>
struct Coordinates {
    int c[Rank];
};

/// image = the bytes of the tile after a load.
template <int Rank>
__global__ void load_kernel(const __grid_constant__ TensorMap map, Coordinates<Rank> at, char* image, unsigned bytes) {
    Smem smem;
    char* tile = smem.take<char>(bytes, 1024);
    SIMT_SHARED(ptx::Mbarrier, full, [1]);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(full, 1);
        ptx::mbarrier_init_fence();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect(full, bytes);
        ptx::tma_load(tile, map, at.c, full);
    }
    ptx::mbarrier_wait(full, 0);
    for (unsigned i = threadIdx.x; i < bytes; i += blockDim.x) image[i] = tile[i];
}

/// Stores (or adds) a tile of these bytes.
template <int Rank, bool Add>
__global__ void store_kernel(const __grid_constant__ TensorMap map, Coordinates<Rank> at, const char* image,
                             unsigned bytes) {
    Smem smem;
    char* tile = smem.take<char>(bytes, 1024);
    copy_image(tile, image, bytes);
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        if constexpr (Add)
            ptx::tma_add(map, at.c, reinterpret_cast<const float*>(tile));
        else
            ptx::tma_store(map, at.c, tile);
        ptx::tma_store_commit();
        ptx::tma_store_wait_read<0>();
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < bytes; i += blockDim.x) tile[i] = 0;  // it has been read
}

// ---- all together ---------------------------------------------------------------------------------------------------

/// c (M x N, f32) = a (M x K) b^T (N x K), tiles of 64 x 96, K in steps of 64 through so many stages: one warp loads, a
/// warpgroup multiplies, TMA stores.
inline constexpr int kGemmM = 64, kGemmN = 96, kGemmK = 64;
inline constexpr unsigned kGemmBytes = (kGemmM + kGemmN) * kGemmK * 2;

constexpr SmemPlan gemm_plan(int stages) {
    return SmemPlan()
        .take<__nv_bfloat16>(static_cast<size_t>(stages * kGemmM * kGemmK), 1024)
        .take<__nv_bfloat16>(static_cast<size_t>(stages * kGemmN * kGemmK), 1024)
        .take<float>(kGemmM * kGemmN, 128);
}

template <int Stages>
__global__ void __launch_bounds__(160)
    gemm_kernel(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
                const __grid_constant__ TensorMap c_map, int k) {
    Smem smem;
    __nv_bfloat16* a_tiles = smem.take<__nv_bfloat16>(Stages * kGemmM * kGemmK, 1024);
    __nv_bfloat16* b_tiles = smem.take<__nv_bfloat16>(Stages * kGemmN * kGemmK, 1024);
    float* c_tile = smem.take<float>(kGemmM * kGemmN, 128);
    SIMT_SHARED(ptx::Mbarrier, full, [Stages]);
    SIMT_SHARED(ptx::Mbarrier, empty, [Stages]);
    const int row = static_cast<int>(blockIdx.y) * kGemmM, column = static_cast<int>(blockIdx.x) * kGemmN;
    const int steps = (k + kGemmK - 1) / kGemmK;
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < Stages; ++stage) {
            ptx::mbarrier_init(full + stage, 1);
            ptx::mbarrier_init(empty + stage, ptx::kWarpgroup);
        }
        ptx::mbarrier_init_fence();
    }
    __syncthreads();
    if (ptx::warpgroup() == 1) {
        if (!ptx::elect_one()) return;
        for (int step = 0; step < steps; ++step) {
            const int stage = step % Stages;
            const auto parity = static_cast<unsigned>(step / Stages % 2);
            ptx::mbarrier_wait(empty + stage, parity ^ 1);
            ptx::mbarrier_arrive_expect(full + stage, kGemmBytes);
            ptx::tma_load(a_tiles + stage * kGemmM * kGemmK, a_map, {step * kGemmK, row}, full + stage);
            ptx::tma_load(b_tiles + stage * kGemmN * kGemmK, b_map, {step * kGemmK, column}, full + stage);
        }
        return;
    }
    float d[kGemmN / 2];
    for (int step = 0; step < steps; ++step) {
        const int stage = step % Stages;
        ptx::mbarrier_wait(full + stage, static_cast<unsigned>(step / Stages % 2));
        const uint64_t a = ptx::k_major_descriptor(a_tiles + stage * kGemmM * kGemmK, Swizzle::bytes_128);
        const uint64_t b = ptx::k_major_descriptor(b_tiles + stage * kGemmN * kGemmK, Swizzle::bytes_128);
        ptx::pin_registers(d);
        ptx::wgmma_fence();
        SIMT_UNROLL
        for (unsigned i = 0; i < kGemmK / 16; ++i)
            ptx::wgmma<__nv_bfloat16>(d, ptx::advance(a, 32 * i), ptx::advance(b, 32 * i), step > 0 || i > 0);
        ptx::wgmma_commit();
        ptx::wgmma_wait<0>();
        ptx::pin_registers(d);
        ptx::mbarrier_arrive(empty + stage);
    }
    for (int i = 0; i < kGemmN / 2; ++i) c_tile[ptx::accumulator_row(i) * kGemmN + ptx::accumulator_column(i)] = d[i];
    ptx::fence_proxy_async();
    ptx::named_barrier_wait(1, ptx::kWarpgroup);
    if (threadIdx.x == 0) {
        ptx::tma_store(c_map, {column, row}, c_tile);
        ptx::tma_store_commit();
        ptx::tma_store_wait<0>();
    }
}

}  // namespace ballast::test
