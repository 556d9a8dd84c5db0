// Attention's gradients of keys and values with TMA and wgmma (sm_90a): T bf16 or fp16, D <= 128, any shape, views
// whose base and strides are multiples of 16 bytes. The maths is that of attention_mma_backward.cuh; this is its pass
// over keys:
//   P' = 2^(scale log2(e) q k^T + log2(e) bias - log2(e) LSE');  dP = dO V^T;  dS = P' * (dP - D)
//   dV = round(P')^T dO;  dK = scale round(dS)^T Q
// Forward: attention_wgmma_forward.cuh. P' and dS are rounded to T for their products; everything else is f32.
// Shapes: q, d_out T [B,T,H,D]; k, v, d_k, d_v T [B,S,G,D]; lse, delta f32 [B,H,T]. Overwritten: d_k and d_v.
// Launch map: one block for (tile of kOwn keys of one part, g, b). Warpgroup 0 loads: one thread issues TMA, and its
// second warp loads LSE' and D. The other two groups have 64 keys each. They loop over the group's heads and over the
// tiles of kOther queries that see a key of the block. A group skips a tile if none of its queries sees a key of the
// group. The mask is applied to elements only in tiles that are not completely visible to a warp. The rows of the
// products are keys, so P' and dS are operands A of the next product, from registers.
// Shared memory: kOwn rows of k and of v, kStages tiles of kOther rows of q and of dO, and LSE' and D of their queries:
// 65 KiB at D = 64, 113 KiB at D = 128.
// Barriers. full[stage]: one arrival of the loading thread, with the bytes of a tile of q and of dO, and one of the
// warp that loaded LSE' and D; each group waits for it. empty[stage]: one arrival of each multiplying warp when its
// products with the tile are complete (or when it skips the tile); both loaders wait for it. One full barrier for k and
// v, used once. Named barriers 1 and 2: the warps of one group, before its rows of k and v are reused to stage its
// sums. A group does not wait for the other.
// A group's step n: issue k q_n^T and v dO_n^T; wait for the first; compute P' while the second runs; issue P' dO_n;
// wait for the second product; compute dS; issue dS q_n; wait for all.
// Masked queries of a loaded tile have weight 0: q and dO must be finite where a tile holds them.
// Work: 8 D operations a visible (query, key). Deterministic: every sum has one owner and one order; no atomics.
#pragma once

#include "kernels/cuda/attention_mma_backward.cuh"
#include "kernels/cuda/attention_wgmma_tile.cuh"

namespace ballast::cuda {

template <class T, int kDims>
struct WgmmaKeyGradient {
    static constexpr int kGroups = 2, kRegisters = 224, kLoadingRegisters = 56;
    static constexpr int kThreads = (1 + kGroups) * simt::ptx::kWarpgroup;
    // Live at the same time: two products of kOther / 2 registers, the weights of one, kOther / 4, and two sums of
    // kDims / 2.
    static constexpr int kOwn = kGroups * kGroupRows, kOther = kDims <= 64 ? 64 : 48, kTiles = kOther / 8, kStages = 2;
    using Tile = WgmmaTile<T, kDims>;
    using Rows = MmaRows<T, kDims, simt::ptx::kWarpgroup>;
    using Pipeline = WgmmaPipeline<kStages>;

    static constexpr simt::SmemPlan memory() {
        simt::SmemPlan plan;
        for (int elements : {kOwn * kDims, kOwn * kDims, kStages * kOther * kDims, kStages * kOther * kDims})
            plan = plan.take<T>(static_cast<size_t>(elements), 1024);
        return plan.template take<float>(kStages * 2 * kOther).template take<Mbarrier>(1 + Pipeline::kBarriers);
    }
};

template <class T, int kDims, bool kByRow>
struct WgmmaKeyGradientBlock {
    using Shape = WgmmaKeyGradient<T, kDims>;
    using Tile = typename Shape::Tile;
    using Rows = typename Shape::Rows;
    using Pipeline = typename Shape::Pipeline;
    using Rules = HeadRules<float, kByRow>;
    static constexpr int kOwn = Shape::kOwn, kOther = Shape::kOther, kTile = kOther * kDims, kTiles = Shape::kTiles;

    T *k_tile, *v_tile, *q_tiles, *d_o_tiles;
    float* values;  // for each stage: LSE' as a power of two, then D
    Mbarrier* own_full;
    Pipeline pipeline;
    int64_t c0, g, b;  // the first key of the block, counted in its part
    bool second;
    int count;

    __device__ WgmmaKeyGradientBlock(simt::Smem& smem, const AttentionOperands<T>& in)
        : k_tile(smem.take<T>(kOwn * kDims, 1024)),
          v_tile(smem.take<T>(kOwn * kDims, 1024)),
          q_tiles(smem.take<T>(Shape::kStages * kTile, 1024)),
          d_o_tiles(smem.take<T>(Shape::kStages * kTile, 1024)),
          values(smem.take<float>(Shape::kStages * 2 * kOther)),
          own_full(smem.take<Mbarrier>(1 + Pipeline::kBarriers)),
          pipeline{own_full + 1},
          g(blockIdx.y),
          b(blockIdx.z) {
        const unsigned first_tiles = static_cast<unsigned>((in.rules.parts[0].rows + kOwn - 1) / kOwn);
        second = blockIdx.x >= first_tiles;
        c0 = int64_t{blockIdx.x - (second ? first_tiles : 0)} * kOwn;
        count = static_cast<int>(min(int64_t{kOwn}, in.rules.parts[second].rows - c0));
    }

    __device__ T* query_tile(unsigned n) const { return q_tiles + Pipeline::stage(n) * kTile; }
    __device__ T* d_out_tile(unsigned n) const { return d_o_tiles + Pipeline::stage(n) * kTile; }
    __device__ float* values_of(unsigned n) const { return values + Pipeline::stage(n) * 2 * kOther; }

    __device__ void init_barriers() const {
        simt::ptx::mbarrier_init(own_full, 1);
        pipeline.init(2, 4 * Shape::kGroups);
        simt::ptx::mbarrier_init_fence();
    }

    /// Calls visit(head, its rules, first query, queries, tiles) for the heads of the group.
    template <class Visit>
    __device__ __forceinline__ void for_each_head(const AttentionOperands<T>& in, const Visit& visit) const {
        for (int64_t h = g * in.group; h < (g + 1) * in.group; ++h) {
            const Rules rules(in.rules, b, h);
            const Range seeing = rules.seeing(in.rules.parts[second], c0, count);
            visit(h, rules, seeing.begin, static_cast<int>(seeing.end - seeing.begin), wgmma_tiles<kOther>(seeing));
        }
    }

    /// The loading thread.
    __device__ __forceinline__ void load(const WgmmaGradientMaps& maps, const AttentionOperands<T>& in) const {
        const KeyPart& part = in.rules.parts[second];
        const int batch = static_cast<int>(b), own_row = static_cast<int>(part.first_row + c0);
        simt::ptx::mbarrier_arrive_expect(own_full, 2 * Tile::template kBytes<kOwn>);
        Tile::template load_groups<Shape::kGroups>(k_tile, maps.k, own_row, static_cast<int>(g), batch, own_full);
        Tile::template load_groups<Shape::kGroups>(v_tile, maps.v, own_row, static_cast<int>(g), batch, own_full);
        const bool sinks = part.sinks && in.sink_query.data != nullptr;
        unsigned n = 0;
        for_each_head(in, [&](int64_t h, const Rules&, int64_t first, int, int tiles) {
            int row = static_cast<int>(first);
            for (int tile = 0; tile < tiles; ++tile, ++n, row += kOther) {
                pipeline.begin(n, 2 * Tile::template kBytes<kOther>);
                Tile::template load<kOther>(query_tile(n), sinks ? maps.sink_query : maps.q, row, static_cast<int>(h),
                                            batch, pipeline.full(n));
                Tile::template load<kOther>(d_out_tile(n), maps.d_out, row, static_cast<int>(h), batch,
                                            pipeline.full(n));
            }
        });
    }

    /// The warp that loads LSE' and D.
    __device__ __forceinline__ void load_values(const AttentionSaved<T>& saved, const AttentionOperands<T>& in) const {
        constexpr int kTurns = (kOther + 31) / 32;
        unsigned n = 0;
        for_each_head(in, [&](int64_t h, const Rules& rules, int64_t first, int seen, int tiles) {
            const int64_t row = (b * gridDim.y * in.group + h) * rules.steps + first;
            for (int tile = 0; tile < tiles; ++tile, ++n) {
                float lse[kTurns], delta[kTurns];
                SIMT_UNROLL
                for (int i = 0; i < kTurns; ++i) {
                    const int query = tile * kOther + i * 32 + Rows::lane();
                    lse[i] = query < seen ? lse_as_power(saved.lse[row + query]) : 0.0f;
                    delta[i] = query < seen ? saved.delta[row + query] : 0.0f;
                }
                pipeline.wait_empty(n);
                SIMT_UNROLL
                for (int i = 0; i < kTurns; ++i) {
                    if (i * 32 + Rows::lane() >= kOther) continue;
                    values_of(n)[i * 32 + Rows::lane()] = lse[i];
                    values_of(n)[kOther + i * 32 + Rows::lane()] = delta[i];
                }
                __syncwarp();
                if (Rows::lane() == 0) simt::ptx::mbarrier_arrive(pipeline.full(n));
            }
        });
    }

    /// A multiplying group.
    __device__ __forceinline__ void multiply(int group, const HeadRows<T>& d_k, const HeadRows<T>& d_v,
                                             const AttentionOperands<T>& in) const {
        const KeyPart& part = in.rules.parts[second];
        const WgmmaGroup own(group, count);
        T *k = k_tile + own.row * kDims, *v = v_tile + own.row * kDims;
        float p[1][kTiles][4], d_s[1][kTiles][4], sums_k[1][kDims / 8][4] = {}, sums_v[1][kDims / 8][4] = {};
        uint32_t p_weights[1][kTiles / 2][4], d_s_weights[1][kTiles / 2][4];
        simt::ptx::mbarrier_wait(own_full, 0);
        unsigned n = 0;
        for_each_head(in, [&](int64_t, const Rules& rules, int64_t first, int seen, int tiles) {
            const MmaLogits logits(in, rules);
            const auto group_tile = rules.from(part, first, c0 + own.row);
            const auto near = rules.from(part, first, c0 + own.warp_row);
            SIMT_NO_UNROLL
            for (int tile = 0; tile < tiles; ++tile, ++n) {
                const int t0 = tile * kOther;
                pipeline.wait(n);
                if (own.count <= 0 || !group_tile.meets(t0, min(kOther, seen - t0), 0, own.count)) {
                    pipeline.release(n);
                    continue;
                }
                multiply_two<Tile, kOther>(p, k, query_tile(n), d_s, v, d_out_tile(n));
                const MmaPlaces<Rows, true> places(0, t0);
                const float factor = logits.finish(p, near, places);
                if (t0 + kOther > seen || !near.holds(t0, kOther, 0, own.warp_count)) hide(p, near, places, seen);
                const float* column_values = values_of(n) + Rows::lane_column();
                SIMT_UNROLL
                for (int t = 0; t < kTiles; ++t) {
                    float lse[2];
                    cuda::load(lse, column_values + t * 8);
                    SIMT_UNROLL
                    for (int e = 0; e < 4; ++e)
                        p[0][t][e] = simt::ptx::exp2_approximate(p[0][t][e] * factor - lse[e % 2]);
                }
                round_weights<T>(p_weights, p);
                issue_weighted<Tile, kOther>(sums_v, p_weights, d_out_tile(n));
                simt::ptx::wgmma_wait<1>();
                simt::ptx::pin_registers(flat(d_s));
                SIMT_UNROLL
                for (int t = 0; t < kTiles; ++t) {
                    float delta[2];
                    cuda::load(delta, column_values + kOther + t * 8);
                    SIMT_UNROLL
                    for (int e = 0; e < 4; ++e) d_s[0][t][e] = p[0][t][e] * (d_s[0][t][e] - delta[e % 2]);
                }
                round_weights<T>(d_s_weights, d_s);
                issue_weighted<Tile, kOther>(sums_k, d_s_weights, query_tile(n));
                simt::ptx::wgmma_wait<0>();
                simt::ptx::pin_registers(flat(sums_k));
                simt::ptx::pin_registers(flat(sums_v));
                pipeline.release(n);
            }
        });

        const int64_t row = part.first_row + c0 + own.row;
        scale_sums(sums_k, in.scale);
        group_barrier<0>(group);  // its rows of k and v are reused to stage its sums
        store_sums<T, Rows>(k, own.warp * 16, d_k, d_k.at(b, row, g), own.count, in.dims, sums_k, 0);
        store_sums<T, Rows>(v, own.warp * 16, d_v, d_v.at(b, row, g), own.count, in.dims, sums_v, 0);
    }
};

template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(WgmmaKeyGradient<T, kDims>::kThreads, 1)
    attention_wgmma_d_key_kernel(const __grid_constant__ HeadRows<T> d_k, const __grid_constant__ HeadRows<T> d_v,
                                 const __grid_constant__ WgmmaGradientMaps maps,
                                 const __grid_constant__ AttentionSaved<T> saved,
                                 const __grid_constant__ AttentionOperands<T> in) {
#if SIMT_SM90A
    using Shape = WgmmaKeyGradient<T, kDims>;
    simt::Smem smem;
    const WgmmaKeyGradientBlock<T, kDims, kByRow> block(smem, in);
    run_warpgroups<Shape>(
        block,
        [&] {
            if (threadIdx.x == 0) block.load(maps, in);
            if (threadIdx.x / kWarpSize == 1) block.load_values(saved, in);
        },
        [&](int group) { block.multiply(group, d_k, d_v, in); });
#else
    __trap();  // never launched there
#endif
}

}  // namespace ballast::cuda
