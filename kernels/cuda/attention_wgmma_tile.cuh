// Shared by the attention kernels of sm_90a: tiles that TMA loads and wgmma multiplies, their pipeline of mbarriers, the
// turns that warpgroups take at the tensor cores, and the division of a block's rows and work among its warpgroups.
//
// A tile has rows of kDims elements; elements beyond the head's dims and rows beyond the tensor are zero. In shared
// memory it is kDims / 64 spans of rows of 128 bytes with permuted chunks. A TMA box of 64 dims writes this layout, and
// wgmma reads it as rows (k-major) or as columns (mn-major) of an operand. In each warp of 16 rows, wgmma's
// accumulators have the layout of mma.sync's m16n8 tiles. So the maps of rows and columns, the masks and the softmax
// are those of attention_mma_tile.cuh with one row tile per warp.
#pragma once

#include "kernels/cuda/attention_mma_tile.cuh"
#include "kernels/simt/hopper.cuh"

namespace ballast::cuda {

using simt::ptx::Mbarrier;

inline constexpr int kGroupRows = 64;  // rows of a warpgroup's product

/// A warp's products, as wgmma's accumulators.
template <int kTiles>
__device__ __forceinline__ float (&flat(float (&s)[1][kTiles][4]))[4 * kTiles] {
    return reinterpret_cast<float(&)[4 * kTiles]>(s);
}

template <class T, int kDims>
struct WgmmaTile {
    static_assert(sizeof(T) == 2 && kDims % 64 == 0);
    static constexpr simt::Swizzle kSwizzle = simt::Swizzle::bytes_128;
    static constexpr int kSpan = 64, kSpans = kDims / kSpan;
    static constexpr unsigned kRowBytes = simt::swizzle_span(kSwizzle);

    template <int kRows>
    static constexpr unsigned kBytes = kRows* kDims * sizeof(T);

    /// Starts the copy of kRows rows of one head, from `row` on. The map must have boxes of kSpan x kRows.
    template <int kRows>
    __device__ __forceinline__ static void load(T* to, const simt::TensorMap& map, int row, int head, int batch,
                                                Mbarrier* full) {
        SIMT_UNROLL
        for (int i = 0; i < kSpans; ++i)
            simt::ptx::tma_load<4>(to + i * kRows * kSpan, map, {i * kSpan, row, head, batch}, full);
    }

    /// Starts the copy of the kGroups groups' own rows of one head, from `row` on. The map is of boxes of kSpan x
    /// kGroupRows. The barrier has been told the bytes.
    template <int kGroups>
    __device__ __forceinline__ static void load_groups(T* to, const simt::TensorMap& map, int row, int head, int batch,
                                                       Mbarrier* full) {
        for (int group = 0; group < kGroups; ++group)
            load<kGroupRows>(to + group * kGroupRows * kDims, map, row + group * kGroupRows, head, batch, full);
    }

    /// Issues s[own row][other row] = own row · other row, for tiles of kGroupRows and kOther rows.
    template <int kOther>
    __device__ __forceinline__ static void multiply(float (&s)[1][kOther / 8][4], const T* own, const T* other) {
        const uint64_t a = simt::ptx::k_major_descriptor(own, kSwizzle);
        const uint64_t b = simt::ptx::k_major_descriptor(other, kSwizzle);
        SIMT_UNROLL
        for (unsigned step = 0; step < kDims / 16; ++step)
            simt::ptx::wgmma<T>(flat(s), simt::ptx::advance(a, step / 4 * kGroupRows * kRowBytes + step % 4 * 32),
                                simt::ptx::advance(b, step / 4 * kOther * kRowBytes + step % 4 * 32), step > 0);
    }

    /// Issues sums[own row][dim] += sum over c of weights[own row][c] values[c][dim], c < kOther.
    template <int kOther>
    __device__ __forceinline__ static void add_weighted(float (&sums)[1][kDims / 8][4],
                                                        const uint32_t (&weights)[1][kOther / 16][4], const T* values) {
        const uint64_t b = simt::ptx::mn_major_descriptor(values, kSwizzle, kOther);
        SIMT_UNROLL
        for (unsigned step = 0; step < kOther / 16; ++step)
            simt::ptx::wgmma<T, simt::ptx::Major::mn>(flat(sums), weights[0][step],
                                                      simt::ptx::advance(b, step * 16 * kRowBytes), true);
    }
};

/// The two products of a gradient's step, of tiles of kGroupRows and kOther rows: a = own_a · other_a, which is
/// complete on return, and b = own_b · other_b, which is still under way.
template <class Tile, int kOther, class T>
__device__ __forceinline__ void multiply_two(float (&a)[1][kOther / 8][4], const T* own_a, const T* other_a,
                                             float (&b)[1][kOther / 8][4], const T* own_b, const T* other_b) {
    simt::ptx::pin_registers(flat(a));
    simt::ptx::pin_registers(flat(b));
    simt::ptx::wgmma_fence();
    Tile::template multiply<kOther>(a, own_a, other_a);
    simt::ptx::wgmma_commit();
    Tile::template multiply<kOther>(b, own_b, other_b);
    simt::ptx::wgmma_commit();
    simt::ptx::wgmma_wait<1>();
    simt::ptx::pin_registers(flat(a));
}

/// Issues sums[own row][dim] += weights[own row][·] · values[·][dim], for kOther rows of values.
template <class Tile, int kOther, class T, int kTiles>
__device__ __forceinline__ void issue_weighted(float (&sums)[1][kTiles][4], uint32_t (&weights)[1][kOther / 16][4],
                                               const T* values) {
    simt::ptx::pin_registers(flat(sums));
    simt::ptx::pin_registers(weights[0]);
    simt::ptx::wgmma_fence();
    Tile::template add_weighted<kOther>(sums, weights, values);
    simt::ptx::wgmma_commit();
}

/// The inputs of a backward pass, loaded by boxes of 64 dims and of as many rows as the pass has in a tile of queries
/// or keys.
struct WgmmaGradientMaps {
    simt::TensorMap q, sink_query, d_out, k, v;
};

/// sums *= factor.
template <int kTiles>
__device__ __forceinline__ void scale_sums(float (&sums)[1][kTiles][4], float factor) {
    SIMT_UNROLL
    for (int n = 0; n < kTiles; ++n) SIMT_UNROLL
    for (int e = 0; e < 4; ++e) sums[0][n][e] *= factor;
}

/// Passes tiles 0, 1, 2, … through kStages places in shared memory. One thread fills; every reading warp releases.
template <int kStages>
struct WgmmaPipeline {
    static constexpr int kBarriers = 2 * kStages;
    Mbarrier* barriers;  // full, then empty

    __device__ __forceinline__ static unsigned stage(unsigned tile) { return tile % kStages; }
    __device__ __forceinline__ static unsigned parity(unsigned tile) { return tile / kStages % 2; }
    __device__ __forceinline__ Mbarrier* full(unsigned tile) const { return barriers + stage(tile); }
    __device__ __forceinline__ Mbarrier* empty(unsigned tile) const { return barriers + kStages + stage(tile); }

    /// By one thread.
    __device__ void init(unsigned filling_arrivals, unsigned reading_warps) const {
        for (unsigned i = 0; i < kStages; ++i) {
            simt::ptx::mbarrier_init(full(i), filling_arrivals);
            simt::ptx::mbarrier_init(empty(i), reading_warps);
        }
    }
    /// Waits for the tile's place.
    __device__ __forceinline__ void wait_empty(unsigned tile) const {
        simt::ptx::mbarrier_wait(empty(tile), parity(tile) ^ 1);
    }
    /// The same, for the thread that issues TMA; the tile has `bytes` bytes.
    __device__ __forceinline__ void begin(unsigned tile, unsigned bytes) const {
        wait_empty(tile);
        simt::ptx::mbarrier_arrive_expect(full(tile), bytes);
    }
    __device__ __forceinline__ void wait(unsigned tile) const { simt::ptx::mbarrier_wait(full(tile), parity(tile)); }
    /// For a warp that has read the tile, or skips it; in both cases it must have waited for the tile.
    __device__ __forceinline__ void release(unsigned tile) const {
        __syncwarp();  // no lane is still waiting: it would miss the phase
        if (threadIdx.x % kWarpSize == 0) simt::ptx::mbarrier_arrive(empty(tile));
    }
};

/// Ping-pong: warpgroups issue products in turn, so that the tensor cores work for one group while the others compute
/// their softmax (FlashAttention-3, section 3.1). Named barriers 1 … kGroups are the turns of the groups.
template <int kGroups>
struct WgmmaTurns {
    int group;
    unsigned last;  // tile

    __device__ __forceinline__ void wait(unsigned tile) const {
        if (tile == 0 && group == 0) return;
        simt::ptx::named_barrier_wait(1 + group, 2 * simt::ptx::kWarpgroup);
    }
    __device__ __forceinline__ void pass(unsigned tile) const {
        if (tile == last && group == kGroups - 1) return;
        simt::ptx::named_barrier_arrive(1 + (group + 1) % kGroups, 2 * simt::ptx::kWarpgroup);
    }
};

/// A barrier for the warps of one group; its number follows those of the kTurns turns.
template <int kTurns>
__device__ __forceinline__ void group_barrier(int group) {
    simt::ptx::named_barrier_wait(1 + kTurns + group, simt::ptx::kWarpgroup);
}

/// Tiles of kOther rows that hold a range.
template <int kOther>
__device__ __forceinline__ int wgmma_tiles(const Range& range) {
    return range.empty() ? 0 : static_cast<int>((range.end - range.begin + kOther - 1) / kOther);
}

/// The rows of a multiplying group, and of this warp of it, counted in the block's tile of `count` rows that are there.
struct WgmmaGroup {
    int row, warp, warp_row;  // the group's first row; the warp's number in the group, and its first row
    int count, warp_count;    // rows that are there: none and below where the tile ends before

    __device__ __forceinline__ WgmmaGroup(int group, int rows)
        : row(group * kGroupRows),
          warp(static_cast<int>(threadIdx.x / kWarpSize) % 4),
          warp_row(group * kGroupRows + warp * 16),
          count(min(kGroupRows, rows - row)),
          warp_count(min(16, rows - warp_row)) {}
};

/// A block whose own rows are Shape::kOwn queries of one head, the last tile first, since it sees the most keys.
template <class Shape, bool kByRow>
struct WgmmaQueryTile {
    int64_t t0, h, b;
    HeadRules<float, kByRow> rules;
    int count;  // queries that are there

    template <class T>
    __device__ explicit WgmmaQueryTile(const AttentionOperands<T>& in)
        : t0(int64_t{gridDim.x - 1 - blockIdx.x} * Shape::kOwn),
          h(blockIdx.y),
          b(blockIdx.z),
          rules(in.rules, b, h),
          count(static_cast<int>(min(int64_t{Shape::kOwn}, rules.steps - t0))) {}
};

/// What every block does: warpgroup 0 calls load(), the others multiply(group), group = 0 …, with the registers that
/// Shape gives to each.
template <class Shape, class Block, class Load, class Multiply>
__device__ __forceinline__ void run_warpgroups(const Block& block, const Load& load, const Multiply& multiply) {
    if (threadIdx.x == 0) block.init_barriers();
    __syncthreads();
    const int group = simt::ptx::warpgroup();
    if (group == 0) {
        simt::ptx::give_back_registers<Shape::kLoadingRegisters>();
        load();
    } else {
        simt::ptx::take_registers<Shape::kRegisters>();
        multiply(group - 1);
    }
}

}  // namespace ballast::cuda
