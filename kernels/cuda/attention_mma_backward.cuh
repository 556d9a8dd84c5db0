// Attention's backward pass on tensor cores: T bf16 or fp16, any shape with D <= 256, any strides (FlashAttention-2,
// Dao 2023, arXiv:2307.08691, algorithm 2, in two passes). The forward pass is attention_mma_forward.cuh. D comes from
// attention_delta_kernel (attention_fma.cuh, where dz is computed too). With LSE' in powers of two:
//   P' = 2^(scale log2(e) q k^T + log2(e) bias - log2(e) LSE');  dP = dO V^T;  dS = P' * (dP - D)
//   dV = round(P')^T dO;  dK = scale round(dS)^T Q;  dQ = scale round(dS) K
// P' and dS are rounded to T for their products; everything else is f32.
// Shapes: q, d_out and d_q T [B,T,H,D]; k, v and theirs T [B,S,G,D]; lse, delta f32 [B,H,T]. Overwritten: all.
// Launch map:
//   dQ        128 threads for (tile of kOwn queries, h, b), the last tile first; loops over the visible keys, in two
//             parts where sinks are handled separately: the sums of the sinks are d_sink_query if there is one
//   dK, dV    128 threads for (tile of kOwn keys of one part, g, b); loops over the group's heads and the queries that
//             see the tile. 256 threads at D = 256: two warps share the same keys and have half of the dims each
// The rows of a product are the block's own rows, so P' and dS are operands A of the next product without a change of
// layout: no weight passes through shared memory. Tiles that no row sees are never loaded, warps skip columns that none
// of their rows sees, and the mask is applied to elements only where not everything is visible.
// Shared memory: two tiles of kOwn rows, two stages of two tiles of kOther rows, and for dK and dV two stages of LSE'
// and D of kOther queries: 32, 48, 64, 96 KiB at D = 32, 64, 128, 256, and up to 1 KiB for the latter.
// Work: 14 D operations a visible (query, key), 6 D for dQ and 8 D for dK and dV (12 D at D = 256, where two warps
// multiply the same S and dP). Each pass reads T S / kOwn rows of two tensors, 4 D bytes (half of them under a causal
// mask). A single pass would take 10 D and read once, but every tile of keys would add to dQ, 8 D bytes of f32 for each
// of T S / kOwn rows, in an order for which blocks would have to wait.
// Deterministic: every sum has one owner and one order; no atomics.
#pragma once

#include "kernels/cuda/attention_mma_tile.cuh"

namespace ballast::cuda {

template <class T, int kDims>
struct MmaQueryGradient {
    static constexpr int kThreads = 128, kRowTiles = kDims <= 64 ? 2 : 1, kWarpRows = 16 * kRowTiles;
    static constexpr int kOwn = kThreads / 32 * kWarpRows, kOther = kDims <= 32 ? 64 : kDims <= 128 ? 32 : 16;
    static constexpr int kStep = 16, kTiles = kStep / 8;  // columns whose products are live
    using Rows = MmaRows<T, kDims, kThreads>;
    using Products = float[kRowTiles][kTiles][4];
    using Weights = uint32_t[kRowTiles][kTiles / 2][4];
    using OwnRows = MmaOwnRows<T, Rows, kRowTiles, (kDims <= 128)>;

    static constexpr simt::SmemPlan memory() {
        simt::SmemPlan plan;
        for (int elements : {kOwn * kDims, kOwn * kDims, 2 * kOther * kDims, 2 * kOther * kDims})
            plan = plan.take<T>(static_cast<size_t>(elements), 128);
        return plan;
    }
};

template <class T, int kDims>
struct MmaKeyGradient {
    static constexpr int kThreads = kDims <= 128 ? 128 : 256, kDimParts = kThreads / 128;
    static constexpr int kRowTiles = kDims <= 32 ? 2 : 1, kWarpRows = 16 * kRowTiles, kOwn = 4 * kWarpRows;
    static constexpr int kOther = kDims <= 64 ? 64 : kDims <= 128 ? 32 : 16;
    static constexpr int kStep = kDims == 64 ? 32 : 16, kTiles = kStep / 8;  // queries whose products are live
    static constexpr int kSumDims = kDims / kDimParts;
    using Rows = MmaRows<T, kDims, kThreads>;
    using Products = float[kRowTiles][kTiles][4];
    using Weights = uint32_t[kRowTiles][kTiles / 2][4];
    using Keys = MmaOwnRows<T, Rows, kRowTiles, (kDims <= 128)>;
    using Values = MmaOwnRows<T, Rows, kRowTiles, (kDims <= 64)>;

    static constexpr simt::SmemPlan memory() {
        simt::SmemPlan plan;
        for (int elements : {kOwn * kDims, kOwn * kDims, 2 * kOther * kDims, 2 * kOther * kDims})
            plan = plan.take<T>(static_cast<size_t>(elements), 128);
        return plan.take<float>(4 * kOther);
    }
};

/// LSE' times log2(e); 0 for a row that sees nothing: the mask makes its weights 0.
__device__ __forceinline__ float lse_as_power(float lse) { return lse == kMinusInfinity<float> ? 0.0f : lse * kLog2E; }

template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(MmaQueryGradient<T, kDims>::kThreads, kMmaBlocks<kDims>)
    attention_mma_d_query_kernel(const __grid_constant__ HeadRows<T> d_q,
                                 const __grid_constant__ HeadRows<T> d_sink_query,
                                 const __grid_constant__ AttentionSaved<T> saved,
                                 const __grid_constant__ AttentionOperands<T> in) {
    using Shape = MmaQueryGradient<T, kDims>;
    using Rows = typename Shape::Rows;
    constexpr int kOwn = Shape::kOwn, kOther = Shape::kOther, kStep = Shape::kStep, kTiles = Shape::kTiles;
    constexpr int kRowTiles = Shape::kRowTiles, kWarpRows = Shape::kWarpRows, kTile = kOther * kDims;
    simt::Smem smem;
    T *q_tile = smem.take<T>(kOwn * kDims, 128), *d_o_tile = smem.take<T>(kOwn * kDims, 128);
    T *k_tiles = smem.take<T>(2 * kTile, 128), *v_tiles = smem.take<T>(2 * kTile, 128);

    const int64_t t0 = int64_t{gridDim.x - 1 - blockIdx.x} * kOwn, h = blockIdx.y, b = blockIdx.z, g = h / in.group;
    const HeadRules<float, kByRow> rules(in.rules, b, h);
    const MmaLogits logits(in, rules);
    const int count = static_cast<int>(min(int64_t{kOwn}, rules.steps - t0));
    const int warp_row = static_cast<int>(threadIdx.x / kWarpSize) * kWarpRows;
    const int warp_count = min(kWarpRows, count - warp_row);
    float lse[kRowTiles][2], delta[kRowTiles][2];
    SIMT_UNROLL
    for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
    for (int e = 0; e < 2; ++e) {
        const int row = warp_row + Rows::lane_row() + i * 16 + e * 8;
        const int64_t n = (b * gridDim.y + h) * rules.steps + t0 + row;
        lse[i][e] = row < count ? lse_as_power(saved.lse[n]) : 0.0f;
        delta[i][e] = row < count ? saved.delta[n] : 0.0f;
    }

    typename Shape::OwnRows queries{q_tile, Rows::place_a() + warp_row * kDims, {}};
    typename Shape::OwnRows d_outs{d_o_tile, Rows::place_a() + warp_row * kDims, {}};
    float sums[kRowTiles][kDims / 8][4] = {};
    for (const KeyPart& part : in.rules.parts) {
        const Range tile_sees = rules.visible(part, t0, count);
        const int columns = static_cast<int>(tile_sees.end - tile_sees.begin);
        const auto near = rules.from(part, t0 + warp_row, tile_sees.begin);
        const T* k = in.k.at(b, part.first_row + tile_sees.begin, g);
        const T* v = in.v.at(b, part.first_row + tile_sees.begin, g);
        const auto load = [&](int tile, int stage) {
            if (tile == 0) {
                const HeadRows<const T>& query = in.query_rows(part);
                Rows::template load<kOwn>(q_tile, query, query.at(b, t0, h), count, in.dims);
                Rows::template load<kOwn>(d_o_tile, saved.d_out, saved.d_out.at(b, t0, h), count, in.dims);
            }
            Rows::template load<kOther>(k_tiles + stage * kTile, in.k, k, columns - tile * kOther, in.dims);
            Rows::template load<kOther>(v_tiles + stage * kTile, in.v, v, columns - tile * kOther, in.dims);
            k += kOther * in.k.row_stride;
            v += kOther * in.v.row_stride;
        };
        const auto compute = [&](int tile, int stage) {
            if (tile == 0) {
                queries.read();
                d_outs.read();
            }
            if (warp_count <= 0) return;
            SIMT_NO_UNROLL
            for (int step = 0; step < kOther; step += kStep) {
                const int c0 = tile * kOther + step, at = stage * kTile + step * kDims;
                if (!near.meets(0, warp_count, c0, kStep)) continue;
                typename Shape::Products s, d_p;
                queries.multiply(s, k_tiles, Rows::place_b() + at);
                d_outs.multiply(d_p, v_tiles, Rows::place_b() + at);
                const MmaPlaces<Rows, false> places(0, c0);
                const float factor = logits.finish(s, near, places);
                if (c0 + kStep > columns || !near.holds(0, warp_count, c0, kStep)) hide(s, near, places, columns);
                SIMT_UNROLL
                for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
                for (int n = 0; n < kTiles; ++n) SIMT_UNROLL
                for (int e = 0; e < 4; ++e)
                    s[i][n][e] = simt::ptx::exp2_approximate(s[i][n][e] * factor - lse[i][e / 2]) *
                                 (d_p[i][n][e] - delta[i][e / 2]);
                typename Shape::Weights d_s;
                round_weights<T>(d_s, s);
                add_weighted<T, Rows>(sums, d_s, k_tiles, Rows::place_a() + at);
            }
        };
        walk_tiles((columns + kOther - 1) / kOther, load, compute);

        const HeadRows<T>& to = part.sinks ? d_sink_query : d_q;
        if (to.data == nullptr) continue;  // sinks without their own query: they add to d_q
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int n = 0; n < kDims / 8; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e) sums[i][n][e] *= in.scale;
        __syncwarp();  // the warp's rows of q are reused to stage its sums
        store_sums<T, Rows>(q_tile, warp_row, to, to.at(b, t0, h), count, in.dims, sums, 0);
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int n = 0; n < kDims / 8; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e) sums[i][n][e] = 0;
    }
}

/// d_k and d_v of one tile of keys. blockIdx.x counts the tiles of the first part, then those of the second.
template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(MmaKeyGradient<T, kDims>::kThreads, kMmaBlocks<kDims>)
    attention_mma_d_key_kernel(const __grid_constant__ HeadRows<T> d_k, const __grid_constant__ HeadRows<T> d_v,
                               const __grid_constant__ AttentionSaved<T> saved,
                               const __grid_constant__ AttentionOperands<T> in) {
    using Shape = MmaKeyGradient<T, kDims>;
    using Rows = typename Shape::Rows;
    constexpr int kOwn = Shape::kOwn, kOther = Shape::kOther, kStep = Shape::kStep, kTiles = Shape::kTiles;
    constexpr int kRowTiles = Shape::kRowTiles, kWarpRows = Shape::kWarpRows, kTile = kOther * kDims;
    constexpr int kSumDims = Shape::kSumDims;
    static_assert(2 * kOther <= Shape::kThreads);
    simt::Smem smem;
    T *k_tile = smem.take<T>(kOwn * kDims, 128), *v_tile = smem.take<T>(kOwn * kDims, 128);
    T *q_tiles = smem.take<T>(2 * kTile, 128), *d_o_tiles = smem.take<T>(2 * kTile, 128);
    float* rows = smem.take<float>(4 * kOther);  // for both stages: LSE' as a power of two, then D

    const unsigned first_tiles = static_cast<unsigned>((in.rules.parts[0].rows + kOwn - 1) / kOwn);
    const bool second = blockIdx.x >= first_tiles;
    const KeyPart& part = in.rules.parts[second];
    const int64_t c0 = int64_t{blockIdx.x - (second ? first_tiles : 0)} * kOwn, g = blockIdx.y, b = blockIdx.z;
    const int64_t row = part.first_row + c0;
    const int count = static_cast<int>(min(int64_t{kOwn}, part.rows - c0));
    const int thread = static_cast<int>(threadIdx.x), warp = thread / static_cast<int>(kWarpSize);
    const int warp_row = warp % 4 * kWarpRows, first_dim = warp / 4 * kSumDims;
    const int warp_count = min(kWarpRows, count - warp_row);
    Rows::template load<kOwn>(k_tile, in.k, in.k.at(b, row, g), count, in.dims);
    Rows::template load<kOwn>(v_tile, in.v, in.v.at(b, row, g), count, in.dims);
    simt::ptx::cp_async_commit();

    typename Shape::Keys keys{k_tile, Rows::place_a() + warp_row * kDims, {}};
    typename Shape::Values values{v_tile, Rows::place_a() + warp_row * kDims, {}};
    float sums_k[kRowTiles][kSumDims / 8][4] = {}, sums_v[kRowTiles][kSumDims / 8][4] = {};
    const HeadRows<const T>& query = in.query_rows(part);
    for (int64_t h = g * in.group; h < (g + 1) * in.group; ++h) {
        const HeadRules<float, kByRow> rules(in.rules, b, h);
        const MmaLogits logits(in, rules);
        const Range tile_seen = rules.seeing(part, c0, count);
        const int seen = static_cast<int>(tile_seen.end - tile_seen.begin);
        const auto near = rules.from(part, tile_seen.begin, c0 + warp_row);
        // Each thread loads one value: kOther of LSE', then kOther of D. The load runs while the previous tile is
        // computed.
        const bool is_delta = thread >= kOther;
        const int own_query = thread - (is_delta ? kOther : 0);
        const int64_t first_value = (b * gridDim.y * in.group + h) * rules.steps + tile_seen.begin;
        float next = 0;
        const auto put_next = [&](int stage) {
            if (thread < 2 * kOther) rows[stage * 2 * kOther + thread] = is_delta ? next : lse_as_power(next);
        };
        const auto load_tile = [&](int tile, int stage) {
            const int left = seen - tile * kOther;
            next = thread < 2 * kOther && own_query < left
                       ? (is_delta ? saved.delta : saved.lse)[first_value + tile * kOther + own_query]
                       : 0.0f;
            if (tile == 0) put_next(0);
            const int64_t first = tile_seen.begin + tile * kOther;
            Rows::template load<kOther>(q_tiles + stage * kTile, query, query.at(b, first, h), left, in.dims);
            Rows::template load<kOther>(d_o_tiles + stage * kTile, saved.d_out, saved.d_out.at(b, first, h), left,
                                        in.dims);
        };
        const auto compute = [&](int tile, int stage) {
            if (tile == 0) {
                keys.read();
                values.read();
            }
            SIMT_NO_UNROLL
            for (int step = 0; step < kOther; step += kStep) {
                const int t0 = tile * kOther + step, at = stage * kTile + step * kDims;
                if (warp_count <= 0 || t0 >= seen || !near.meets(t0, kStep, 0, warp_count)) continue;
                typename Shape::Products p, d_s;
                keys.multiply(p, q_tiles, Rows::place_b() + at);
                values.multiply(d_s, d_o_tiles, Rows::place_b() + at);
                const MmaPlaces<Rows, true> places(0, t0);
                const float factor = logits.finish(p, near, places);
                if (t0 + kStep > seen || !near.holds(t0, kStep, 0, warp_count)) hide(p, near, places, seen);
                SIMT_UNROLL
                for (int n = 0; n < kTiles; ++n) {
                    const float* row_values = rows + stage * 2 * kOther + step + n * 8 + Rows::lane_column();
                    float lse[2], delta[2];
                    load(lse, row_values);
                    load(delta, row_values + kOther);
                    SIMT_UNROLL
                    for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
                    for (int e = 0; e < 4; ++e) {
                        p[i][n][e] = simt::ptx::exp2_approximate(p[i][n][e] * factor - lse[e % 2]);
                        d_s[i][n][e] = p[i][n][e] * (d_s[i][n][e] - delta[e % 2]);
                    }
                }
                typename Shape::Weights weights;
                round_weights<T>(weights, p);
                add_weighted<T, Rows>(sums_v, weights, d_o_tiles, Rows::place_a() + at + first_dim);
                round_weights<T>(weights, d_s);
                add_weighted<T, Rows>(sums_k, weights, q_tiles, Rows::place_a() + at + first_dim);
            }
            put_next(1 - stage);
        };
        walk_tiles((seen + kOther - 1) / kOther, load_tile, compute);
    }

    simt::ptx::cp_async_wait<0>();  // k and v, where no query sees the tile
    __syncthreads();                // the rows of k and v are reused to stage the sums
    SIMT_UNROLL
    for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
    for (int n = 0; n < kSumDims / 8; ++n) SIMT_UNROLL
    for (int e = 0; e < 4; ++e) sums_k[i][n][e] *= in.scale;
    store_sums<T, Rows>(k_tile, warp_row, d_k, d_k.at(b, row, g), count, in.dims, sums_k, first_dim / 8);
    store_sums<T, Rows>(v_tile, warp_row, d_v, d_v.at(b, row, g), count, in.dims, sums_v, first_dim / 8);
}

}  // namespace ballast::cuda
