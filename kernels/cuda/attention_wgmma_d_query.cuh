// Attention's gradient of queries with TMA and wgmma (sm_90a): T bf16 or fp16, D <= 128, any shape, views whose base
// and strides are multiples of 16 bytes. The maths is that of attention_mma_backward.cuh, which explains why there are
// two passes:
//   P' = 2^(scale log2(e) q k^T + log2(e) bias - log2(e) LSE');  dP = dO V^T;  dS = P' * (dP - D)
//   dQ = scale round(dS) K
// Forward: attention_wgmma_forward.cuh. dS is rounded to T for its product; everything else is f32.
// Shapes: q, d_out, d_q, d_sink_query T [B,T,H,D]; k, v T [B,S,G,D]; lse, delta f32 [B,H,T]. Overwritten: d_q and
// d_sink_query.
// Launch map: one block for (tile of kOwn queries, h, b), the last tile first. Warpgroup 0 loads: one thread issues
// TMA. The other two groups have 64 queries each. They loop over the tiles of kOther keys that are visible to a query
// of the block, first the sinks, then the rest. A group skips a tile that none of its own queries sees. The mask is
// applied to elements only in tiles that are not completely visible to a warp. Where sinks have their own query, the
// sums of the sinks' part are d_sink_query.
// Shared memory: two tiles of kOwn rows of q (the sinks' query and the rest's), one of dO, kStages tiles of kOther rows
// of k and of v: 112 KiB at D = 64, 192 KiB at D = 128.
// Barriers. full[stage]: one arrival and the bytes of a tile of k and of v; each group waits for it. empty[stage]: one
// arrival of each multiplying warp when its products with the tile are complete (or when it skips the tile); the
// loading thread waits for it. One full barrier for each q tile and for dO, used once. Named barriers 1 and 2: the
// warps of one group, before a q tile is reused to stage its sums. A group does not wait for the other.
// A group's step n: issue q k_n^T and dO v_n^T; wait for the first, and with it for dQ's product of step n - 1; compute
// P' while the second runs; wait; compute dS; issue dS k_n.
// Masked keys of a loaded tile have weight 0: keys and values must be finite where a tile holds them.
// Work: 6 D operations a visible (query, key). Deterministic: every sum has one owner and one order; no atomics.
#pragma once

#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/attention_wgmma_tile.cuh"

namespace ballast::cuda {

template <class T, int kDims>
struct WgmmaQueryGradient {
    static constexpr int kGroups = 2, kRegisters = 240, kLoadingRegisters = 24;
    static constexpr int kThreads = (1 + kGroups) * simt::ptx::kWarpgroup;
    // Columns whose two products are live besides the sums: 64 + 64 + 32 registers at D = 64, 48 + 48 + 64 at D = 128.
    static constexpr int kOwn = kGroups * kGroupRows, kOther = kDims <= 64 ? 128 : 96, kTiles = kOther / 8, kStages = 2;
    using Tile = WgmmaTile<T, kDims>;
    using Rows = MmaRows<T, kDims, simt::ptx::kWarpgroup>;
    using Pipeline = WgmmaPipeline<kStages>;

    static constexpr simt::SmemPlan memory() {
        simt::SmemPlan plan;
        for (int elements : {2 * kOwn * kDims, kOwn * kDims, kStages * kOther * kDims, kStages * kOther * kDims})
            plan = plan.take<T>(static_cast<size_t>(elements), 1024);
        return plan.template take<Mbarrier>(3 + Pipeline::kBarriers);
    }
};

template <class T, int kDims, bool kByRow>
struct WgmmaQueryGradientBlock : WgmmaQueryTile<WgmmaQueryGradient<T, kDims>, kByRow> {
    using Shape = WgmmaQueryGradient<T, kDims>;
    using Tile = typename Shape::Tile;
    using Rows = typename Shape::Rows;
    using Pipeline = typename Shape::Pipeline;
    static constexpr int kOwn = Shape::kOwn, kOther = Shape::kOther, kTile = kOther * kDims, kTiles = Shape::kTiles;

    T *q_tiles, *d_o_tile, *k_tiles, *v_tiles;
    Mbarrier *q_full, *d_o_full;
    Pipeline pipeline;
    using Queries = WgmmaQueryTile<Shape, kByRow>;
    using Queries::t0, Queries::h, Queries::b, Queries::rules, Queries::count;

    __device__ WgmmaQueryGradientBlock(simt::Smem& smem, const AttentionOperands<T>& in)
        : Queries(in),
          q_tiles(smem.take<T>(2 * kOwn * kDims, 1024)),
          d_o_tile(smem.take<T>(kOwn * kDims, 1024)),
          k_tiles(smem.take<T>(Shape::kStages * kTile, 1024)),
          v_tiles(smem.take<T>(Shape::kStages * kTile, 1024)),
          q_full(smem.take<Mbarrier>(3 + Pipeline::kBarriers)),
          d_o_full(q_full + 2),
          pipeline{q_full + 3} {}

    __device__ T* key_tile(unsigned n) const { return k_tiles + Pipeline::stage(n) * kTile; }
    __device__ T* value_tile(unsigned n) const { return v_tiles + Pipeline::stage(n) * kTile; }

    __device__ void init_barriers() const {
        for (int i = 0; i < 3; ++i) simt::ptx::mbarrier_init(q_full + i, 1);
        pipeline.init(1, 4 * Shape::kGroups);
        simt::ptx::mbarrier_init_fence();
    }

    __device__ __forceinline__ void load_own(T* to, const simt::TensorMap& map, Mbarrier* full) const {
        simt::ptx::mbarrier_arrive_expect(full, Tile::template kBytes<kOwn>);
        Tile::template load_groups<Shape::kGroups>(to, map, static_cast<int>(t0), static_cast<int>(h),
                                                   static_cast<int>(b), full);
    }

    /// The loading thread.
    __device__ __forceinline__ void load(const WgmmaGradientMaps& maps, const AttentionOperands<T>& in) const {
        const int batch = static_cast<int>(b), kv_head = static_cast<int>(h / in.group);
        unsigned n = 0;
        for (int i = 0; i < 2; ++i) {
            const KeyPart& part = in.rules.parts[i];
            const Range sees = rules.visible(part, t0, count);
            const int tiles = wgmma_tiles<kOther>(sees);
            if (tiles == 0) continue;
            if (n == 0 || in.sink_query.data != nullptr) {
                const bool sinks = part.sinks && in.sink_query.data != nullptr;
                load_own(q_tiles + i * kOwn * kDims, sinks ? maps.sink_query : maps.q, q_full + i);
            }
            if (n == 0) load_own(d_o_tile, maps.d_out, d_o_full);
            int row = static_cast<int>(part.first_row + sees.begin);
            for (int tile = 0; tile < tiles; ++tile, ++n, row += kOther) {
                pipeline.begin(n, 2 * Tile::template kBytes<kOther>);
                Tile::template load<kOther>(key_tile(n), maps.k, row, kv_head, batch, pipeline.full(n));
                Tile::template load<kOther>(value_tile(n), maps.v, row, kv_head, batch, pipeline.full(n));
            }
        }
    }

    /// A multiplying group.
    __device__ __forceinline__ void multiply(int group, const HeadRows<T>& d_q, const HeadRows<T>& d_sink_query,
                                             const AttentionSaved<T>& saved, const AttentionOperands<T>& in) const {
        const WgmmaGroup own(group, count);
        const MmaLogits logits(in, rules);
        float lse[2], delta[2];
        SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
            const int row = own.warp_row + Rows::lane_row() + e * 8;
            const int64_t n = (b * gridDim.y + h) * rules.steps + t0 + row;
            lse[e] = row < count ? lse_as_power(saved.lse[n]) : 0.0f;
            delta[e] = row < count ? saved.delta[n] : 0.0f;
        }

        const T* d_o = d_o_tile + own.row * kDims;
        float s[1][kTiles][4], d_p[1][kTiles][4], sums[1][kDims / 8][4] = {};
        uint32_t d_s[1][kTiles / 2][4];
        unsigned n = 0, last = 0;
        bool pending = false;  // the product of tile `last` with d_s is in progress
        const auto finish_pending = [&] {
            simt::ptx::wgmma_wait<0>();
            simt::ptx::pin_registers(flat(sums));
            pipeline.release(last);
            pending = false;
        };
        int q_part = 0;
        for (int i = 0; i < 2; ++i) {
            const KeyPart& part = in.rules.parts[i];
            const Range sees = rules.visible(part, t0, count);
            const int tiles = wgmma_tiles<kOther>(sees), columns = static_cast<int>(sees.end - sees.begin);
            if (tiles > 0 && (n == 0 || in.sink_query.data != nullptr)) {
                simt::ptx::mbarrier_wait(q_full + i, 0);
                q_part = i;
            }
            if (tiles > 0 && n == 0) simt::ptx::mbarrier_wait(d_o_full, 0);
            const T* q = q_tiles + (q_part * kOwn + own.row) * kDims;
            const auto group_tile = rules.from(part, t0 + own.row, sees.begin);
            const auto near = rules.from(part, t0 + own.warp_row, sees.begin);
            SIMT_NO_UNROLL
            for (int tile = 0; tile < tiles; ++tile, ++n) {
                const int c0 = tile * kOther;
                pipeline.wait(n);
                if (own.count <= 0 || !group_tile.meets(0, own.count, c0, kOther)) {
                    if (pending) finish_pending();
                    pipeline.release(n);
                    continue;
                }
                multiply_two<Tile, kOther>(s, q, key_tile(n), d_p, d_o, value_tile(n));
                if (pending) pipeline.release(last);
                const MmaPlaces<Rows, false> places(0, c0);
                const float factor = logits.finish(s, near, places);
                if (c0 + kOther > columns || !near.holds(0, own.warp_count, c0, kOther)) hide(s, near, places, columns);
                SIMT_UNROLL
                for (int t = 0; t < kTiles; ++t) SIMT_UNROLL
                for (int e = 0; e < 4; ++e) s[0][t][e] = simt::ptx::exp2_approximate(s[0][t][e] * factor - lse[e / 2]);
                // A wait in both arms of a branch on a vote, as in the forward pass; otherwise no exponential overlaps
                // the product. One arm must change d_p.
                if (__any_sync(kAllLanes, delta[0] != 0 || delta[1] != 0)) {
                    simt::ptx::wgmma_wait<0>();
                    simt::ptx::pin_registers(flat(d_p));
                    SIMT_UNROLL
                    for (int t = 0; t < kTiles; ++t) SIMT_UNROLL
                    for (int e = 0; e < 4; ++e) d_p[0][t][e] -= delta[e / 2];
                } else {
                    simt::ptx::wgmma_wait<0>();
                    simt::ptx::pin_registers(flat(d_p));
                }
                SIMT_UNROLL
                for (int t = 0; t < kTiles; ++t) SIMT_UNROLL
                for (int e = 0; e < 4; ++e) s[0][t][e] *= d_p[0][t][e];
                round_weights<T>(d_s, s);
                issue_weighted<Tile, kOther>(sums, d_s, key_tile(n));
                last = n;
                pending = true;
            }
            if (pending) finish_pending();
            simt::ptx::wgmma_wait<0>();  // nothing is pending; ptxas does not know, and would insert a wait of its own

            const HeadRows<T>& to = part.sinks ? d_sink_query : d_q;
            if (to.data == nullptr) continue;  // sinks without their own query: they add to d_q
            scale_sums(sums, in.scale);
            group_barrier<0>(group);  // its rows of the part's q are reused to stage its sums
            store_sums<T, Rows>(q_tiles + (i * kOwn + own.row) * kDims, own.warp * 16, to, to.at(b, t0 + own.row, h),
                                own.count, in.dims, sums, 0);
            SIMT_UNROLL
            for (int t = 0; t < kDims / 8; ++t) SIMT_UNROLL
            for (int e = 0; e < 4; ++e) sums[0][t][e] = 0;
        }
    }
};

template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(WgmmaQueryGradient<T, kDims>::kThreads, 1)
    attention_wgmma_d_query_kernel(const __grid_constant__ HeadRows<T> d_q,
                                   const __grid_constant__ HeadRows<T> d_sink_query,
                                   const __grid_constant__ WgmmaGradientMaps maps,
                                   const __grid_constant__ AttentionSaved<T> saved,
                                   const __grid_constant__ AttentionOperands<T> in) {
#if SIMT_SM90A
    using Shape = WgmmaQueryGradient<T, kDims>;
    simt::Smem smem;
    const WgmmaQueryGradientBlock<T, kDims, kByRow> block(smem, in);
    run_warpgroups<Shape>(
        block,
        [&] {
            if (threadIdx.x == 0) block.load(maps, in);
        },
        [&](int group) { block.multiply(group, d_q, d_sink_query, saved, in); });
#else
    __trap();  // never launched there
#endif
}

}  // namespace ballast::cuda
