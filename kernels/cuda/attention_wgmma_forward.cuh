// Attention's forward pass with TMA and wgmma (sm_90a): T bf16 or fp16, D <= 128, any shape, views whose base and
// strides are multiples of 16 bytes (FlashAttention-3, Shah et al. 2024, arXiv:2407.08608, algorithms 1 and 2). Maths
// as in attention_mma_forward.cuh:
//   s = scale log2(e) q k^T + log2(e) bias;  m' = max(m, s);  p = 2^(s - m');  o = o 2^(m - m') + round(p) v;
//   l = l 2^(m - m') + sum p;  at the end LSE' = logaddexp(m ln 2 + log l, z), out = o exp(m ln 2 - LSE')
// Backward: attention_mma_backward.cuh. p is rounded to T for its product, not for the sum; everything else is f32.
// Shapes: q, out T [B,T,H,D]; k, v T [B,S,G,D]; lse f32 [B,H,T]; z f32 [H]. Saved: out and lse. Overwritten: both.
// Launch map: one block for (tile of kOwn queries, h, b), the last tile first, since it sees the most keys. Warpgroup 0
// loads: one thread issues TMA. The other kGroups groups, with 64 queries each, multiply and compute weights. All
// groups loop over the same tiles of kOther keys, those that are visible to a query of the block, first the sinks, then
// the rest. A group skips a tile that none of its own queries sees. The mask is applied to elements only in tiles that
// are not completely visible to a warp. Registers: setmaxnreg gives those of the loading group to the others.
// Shared memory: two tiles of kOwn rows of q (the sinks' query and the rest's), kStages tiles of kOther rows of k and
// of v: 112 KiB at D = 64, 192 KiB at D = 128.
// Barriers. full[stage] of k and v: one arrival and the tile's bytes; each group waits for it. empty[stage]: one
// arrival of each multiplying warp when its products with the tile are complete (or when it skips the tile); the
// loading thread waits for it. One full barrier for each q tile, used once. Named barriers 1 … kGroups are the turns of
// the groups: a group waits there before it issues products, and the previous group arrives there when it has issued
// its own. The next kGroups barriers: the warps of one group, before the q tile is reused to stage its output.
// A group's step n: issue s_n = q k_n^T and o += p_(n-1) v_(n-1), and pass the turn on; compute the weights of s_n
// while the second product and those of other groups run; then scale o to the new maximum and round p_n.
// A masked key of a loaded tile is multiplied with weight 0: keys and values must be finite where a tile holds them.
// Deterministic: every sum has one owner and one order; no atomics.
#pragma once

#include "kernels/cuda/attention_softmax.cuh"
#include "kernels/cuda/attention_wgmma_tile.cuh"

namespace ballast::cuda {

template <class T, int kDims, bool kByRow>
struct WgmmaForward {
    // Three groups of 160 registers are enough for 64 dims of 64 queries (products 64, sums 32, weights 32 registers).
    // With 128 dims there are two groups of 240 (64, 64, 32). setmaxnreg must leave the loading group's registers
    // within 64 Ki in total. A mask by row needs some registers too: its tiles are smaller.
    static constexpr int kGroups = kDims <= 64 && !kByRow ? 3 : 2;
    static constexpr int kRegisters = kGroups == 3 ? 160 : 240, kLoadingRegisters = kGroups == 3 ? 32 : 24;
    static constexpr int kThreads = (1 + kGroups) * simt::ptx::kWarpgroup;
    static_assert((kGroups * kRegisters + kLoadingRegisters) * simt::ptx::kWarpgroup <= 64 << 10);
    static constexpr int kOwn = kGroups * kGroupRows, kOther = kDims > 64 && kByRow ? 96 : 128;
    static constexpr int kTiles = kOther / 8, kStages = 2;
    using Tile = WgmmaTile<T, kDims>;
    using Rows = MmaRows<T, kDims, simt::ptx::kWarpgroup>;
    using Pipeline = WgmmaPipeline<kStages>;

    static constexpr simt::SmemPlan memory() {
        return simt::SmemPlan()
            .template take<T>(2 * kOwn * kDims, 1024)
            .template take<T>(kStages * kOther * kDims, 1024)
            .template take<T>(kStages * kOther * kDims, 1024)
            .template take<Mbarrier>(2 + 2 * Pipeline::kBarriers);
    }
};

/// The rows of q, k and v, loaded by boxes of 64 dims and of kGroupRows, kOther and kOther rows.
struct WgmmaForwardMaps {
    simt::TensorMap q, sink_query, k, v;
};

template <class T, int kDims, bool kByRow>
struct WgmmaForwardBlock : WgmmaQueryTile<WgmmaForward<T, kDims, kByRow>, kByRow> {
    using Shape = WgmmaForward<T, kDims, kByRow>;
    using Tile = typename Shape::Tile;
    using Rows = typename Shape::Rows;
    using Pipeline = typename Shape::Pipeline;
    static constexpr int kOwn = Shape::kOwn, kOther = Shape::kOther, kTile = kOther * kDims;

    T *q_tiles, *k_tiles, *v_tiles;
    Mbarrier* q_full;
    Pipeline keys, values;
    using Queries = WgmmaQueryTile<Shape, kByRow>;
    using Queries::t0, Queries::h, Queries::b, Queries::rules, Queries::count;

    __device__ WgmmaForwardBlock(simt::Smem& smem, const AttentionOperands<T>& in)
        : Queries(in),
          q_tiles(smem.take<T>(2 * kOwn * kDims, 1024)),
          k_tiles(smem.take<T>(Shape::kStages * kTile, 1024)),
          v_tiles(smem.take<T>(Shape::kStages * kTile, 1024)),
          q_full(smem.take<Mbarrier>(2 + 2 * Pipeline::kBarriers)),
          keys{q_full + 2},
          values{q_full + 2 + Pipeline::kBarriers} {}

    __device__ T* key_tile(unsigned n) const { return k_tiles + Pipeline::stage(n) * kTile; }
    __device__ T* value_tile(unsigned n) const { return v_tiles + Pipeline::stage(n) * kTile; }

    __device__ void init_barriers() const {
        for (int i = 0; i < 2; ++i) simt::ptx::mbarrier_init(q_full + i, 1);
        keys.init(1, 4 * Shape::kGroups);
        values.init(1, 4 * Shape::kGroups);
        simt::ptx::mbarrier_init_fence();
    }

    /// The loading thread.
    __device__ __forceinline__ void load(const WgmmaForwardMaps& maps, const AttentionOperands<T>& in) const {
        const int head = static_cast<int>(h), batch = static_cast<int>(b), kv_head = static_cast<int>(h / in.group);
        unsigned n = 0;
        int queries = 0;
        for (const KeyPart& part : in.rules.parts) {
            const Range sees = rules.visible(part, t0, count);
            const int tiles = wgmma_tiles<kOther>(sees);
            if (tiles == 0) continue;
            if (queries == 0 || in.sink_query.data != nullptr) {
                const bool sinks = part.sinks && in.sink_query.data != nullptr;
                T* to = q_tiles + queries * kOwn * kDims;
                simt::ptx::mbarrier_arrive_expect(q_full + queries, Tile::template kBytes<kOwn>);
                Tile::template load_groups<Shape::kGroups>(to, sinks ? maps.sink_query : maps.q, static_cast<int>(t0),
                                                           head, batch, q_full + queries);
                ++queries;
            }
            int row = static_cast<int>(part.first_row + sees.begin);
            for (int tile = 0; tile < tiles; ++tile, ++n, row += kOther) {
                keys.begin(n, Tile::template kBytes<kOther>);
                Tile::template load<kOther>(key_tile(n), maps.k, row, kv_head, batch, keys.full(n));
                values.begin(n, Tile::template kBytes<kOther>);
                Tile::template load<kOther>(value_tile(n), maps.v, row, kv_head, batch, values.full(n));
            }
        }
    }

    /// A multiplying group.
    __device__ __forceinline__ void multiply(int group, const HeadRows<T>& out, float* lse,
                                             const AttentionOperands<T>& in) const {
        const WgmmaGroup own(group, count);
        const MmaLogits logits(in, rules);
        unsigned all_tiles = 0;
        for (const KeyPart& part : in.rules.parts)
            all_tiles += static_cast<unsigned>(wgmma_tiles<kOther>(rules.visible(part, t0, count)));
        const WgmmaTurns<Shape::kGroups> turns{group, all_tiles - 1};

        float s[1][Shape::kTiles][4], o[1][kDims / 8][4] = {};
        uint32_t p[1][Shape::kTiles / 2][4];
        MmaSoftmax<1> softmax;
        unsigned n = 0, weighed = 0;
        bool pending = false;  // the weights p of tile `weighed` are not yet multiplied
        const auto add_pending = [&] {
            values.wait(weighed);
            issue_weighted<Tile, kOther>(o, p, value_tile(weighed));
            simt::ptx::wgmma_wait<0>();
            simt::ptx::pin_registers(flat(o));
            values.release(weighed);
            pending = false;
        };
        int queries = 0;
        for (const KeyPart& part : in.rules.parts) {
            const Range sees = rules.visible(part, t0, count);
            const int tiles = wgmma_tiles<kOther>(sees), columns = static_cast<int>(sees.end - sees.begin);
            if (tiles == 0) continue;
            if (queries == 0 || in.sink_query.data != nullptr) simt::ptx::mbarrier_wait(q_full + queries++, 0);
            const T* q = q_tiles + ((queries - 1) * kOwn + own.row) * kDims;
            const auto group_tile = rules.from(part, t0 + own.row, sees.begin);
            const auto near = rules.from(part, t0 + own.warp_row, sees.begin);
            SIMT_NO_UNROLL
            for (int tile = 0; tile < tiles; ++tile, ++n) {
                const int c0 = tile * kOther;
                keys.wait(n);
                if (own.count <= 0 || !group_tile.meets(0, own.count, c0, kOther)) {
                    turns.wait(n);
                    turns.pass(n);
                    if (pending) add_pending();
                    keys.release(n);
                    values.wait(n);
                    values.release(n);
                    continue;
                }
                turns.wait(n);
                simt::ptx::pin_registers(flat(s));
                simt::ptx::pin_registers(flat(o));
                simt::ptx::pin_registers(p[0]);
                simt::ptx::wgmma_fence();
                Tile::template multiply<kOther>(s, q, key_tile(n));
                simt::ptx::wgmma_commit();
                if (pending) {
                    values.wait(weighed);
                    simt::ptx::wgmma_fence();
                    Tile::template add_weighted<kOther>(o, p, value_tile(weighed));
                    simt::ptx::wgmma_commit();
                    turns.pass(n);
                    simt::ptx::wgmma_wait<1>();
                } else {
                    turns.pass(n);
                    simt::ptx::wgmma_wait<0>();
                }
                simt::ptx::pin_registers(flat(s));
                keys.release(n);
                const MmaPlaces<Rows, false> places(0, c0);
                const float factor = logits.finish(s, near, places);
                if (c0 + kOther > columns || !near.holds(0, own.warp_count, c0, kOther)) hide(s, near, places, columns);
                MmaSoftmax<1>::Decay decay;
                // A wait in both arms of a branch on a vote. Without the branch ptxas moves the wait above the
                // exponentials, which then do not overlap the product (tests/cuda/overlap_test.py reads the machine
                // code).
                if (softmax.weigh(s, factor, decay)) {
                    simt::ptx::wgmma_wait<0>();
                    simt::ptx::pin_registers(flat(o));
                    MmaSoftmax<1>::apply(decay, o);
                } else {
                    simt::ptx::wgmma_wait<0>();
                    simt::ptx::pin_registers(flat(o));
                }
                if (pending) values.release(weighed);
                round_weights<T>(p, s);
                weighed = n;
                pending = true;
            }
        }
        if (pending) add_pending();

        softmax.template finish<Rows>(o, rules.sink_logit, own.warp_row, [&](int row, float value) {
            if (row < count) lse[(b * gridDim.y + h) * rules.steps + t0 + row] = value;
        });
        group_barrier<Shape::kGroups>(group);  // its rows of q are reused to stage its output
        store_sums<T, Rows>(q_tiles + own.row * kDims, own.warp * 16, out, out.at(b, t0 + own.row, h), own.count,
                            in.dims, o, 0);
    }
};

template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(WgmmaForward<T, kDims, kByRow>::kThreads, 1)
    attention_wgmma_forward_kernel(const __grid_constant__ HeadRows<T> out, float* lse,
                                   const __grid_constant__ WgmmaForwardMaps maps,
                                   const __grid_constant__ AttentionOperands<T> in) {
#if SIMT_SM90A
    using Shape = WgmmaForward<T, kDims, kByRow>;
    simt::Smem smem;
    const WgmmaForwardBlock<T, kDims, kByRow> block(smem, in);
    run_warpgroups<Shape>(
        block,
        [&] {
            if (threadIdx.x == 0) block.load(maps, in);
        },
        [&](int group) { block.multiply(group, out, lse, in); });
#else
    __trap();  // never launched there
#endif
}

}  // namespace ballast::cuda
