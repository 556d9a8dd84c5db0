// Attention's forward pass on tensor cores: T bf16 or fp16, any shape with D <= 256, any strides (FlashAttention-2, Dao
// 2023, arXiv:2307.08691, algorithm 1). The formula is kernels/attention_variant.h's, in powers of two:
//   s = scale log2(e) q k^T + log2(e) bias;  m' = max(m, s);  p = 2^(s - m');  o = o 2^(m - m') + round(p) v;
//   l = l 2^(m - m') + sum p;  at the end LSE' = logaddexp(m ln 2 + log l, z), out = o exp(m ln 2 - LSE')
// (the backward pass: attention_mma_backward.cuh). p is rounded to T for its product, not for the sum; the rest is f32.
// Shapes: q, out T [B,T,H,D]; k, v T [B,S,G,D]; lse f32 [B,H,T]; z f32 [H]. Saved: out and lse. Overwritten: both.
// Launch map: 128 threads for (tile of kOwn queries, h, b), the last tile first, since it sees the most keys. A warp
// owns 16 kRowTiles queries and skips tiles of kOther keys that none of them sees. Tiles that no query sees are never
// loaded, and the mask is applied to elements only in tiles that are not completely visible to a warp. Shared memory:
// kOwn rows of q, two stages of kOther rows of k and of v: 24, 48, 64 and 96 KiB at D = 32, 64, 128, 256. Work: 4 D
// operations per visible (query, key). A warp reads 256 / kRowTiles bytes of k or v from shared memory for an mma of
// 4096 operations. At kRowTiles = 1 an A100 multiplies as fast as it reads, so up to D = 128 a warp owns 32 rows.
// Deterministic: every sum has one owner and one order; no atomics.
#pragma once

#include "kernels/cuda/attention_softmax.cuh"

namespace ballast::cuda {

template <class T, int kDims>
struct MmaForward {
    static constexpr int kThreads = 128, kRowTiles = kDims <= 128 ? 2 : 1, kWarpRows = 16 * kRowTiles;
    static constexpr int kOwn = kThreads / 32 * kWarpRows, kOther = kDims <= 64 ? 64 : 32;
    static constexpr int kStep = kDims <= 64 ? 32 : 16, kTiles = kStep / 8;  // columns whose products are live
    static constexpr bool kKeepQueries = kDims <= 64;
    using Rows = MmaRows<T, kDims, kThreads>;
    using Queries = MmaOwnRows<T, Rows, kRowTiles, kKeepQueries>;
    using Products = float[kRowTiles][kTiles][4];
    using Weights = uint32_t[kRowTiles][kTiles / 2][4];
    using Sums = float[kRowTiles][kDims / 8][4];

    static constexpr simt::SmemPlan memory() {
        return simt::SmemPlan()
            .template take<T>(kOwn * kDims, 128)
            .template take<T>(2 * kOther * kDims, 128)
            .template take<T>(2 * kOther * kDims, 128);
    }
};

template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(MmaForward<T, kDims>::kThreads, kMmaBlocks<kDims>)
    attention_mma_forward_kernel(const __grid_constant__ HeadRows<T> out, float* lse,
                                 const __grid_constant__ AttentionOperands<T> in) {
    using Shape = MmaForward<T, kDims>;
    using Rows = typename Shape::Rows;
    constexpr int kOwn = Shape::kOwn, kOther = Shape::kOther, kStep = Shape::kStep;
    constexpr int kRowTiles = Shape::kRowTiles, kWarpRows = Shape::kWarpRows, kTile = kOther * kDims;
    simt::Smem smem;
    T* q_tile = smem.take<T>(kOwn * kDims, 128);
    T* k_tiles = smem.take<T>(2 * kOther * kDims, 128);
    T* v_tiles = smem.take<T>(2 * kOther * kDims, 128);

    const int64_t t0 = int64_t{gridDim.x - 1 - blockIdx.x} * kOwn, h = blockIdx.y, b = blockIdx.z, g = h / in.group;
    const HeadRules<float, kByRow> rules(in.rules, b, h);
    const int count = static_cast<int>(min(int64_t{kOwn}, rules.steps - t0));
    const int warp_row = static_cast<int>(threadIdx.x / kWarpSize) * kWarpRows;
    const int warp_count = min(kWarpRows, count - warp_row);
    const MmaLogits logits(in, rules);

    typename Shape::Queries queries{q_tile, Rows::place_a() + warp_row * kDims, {}};
    typename Shape::Sums o = {};
    using Softmax = MmaSoftmax<kRowTiles>;
    Softmax softmax;
    for (const KeyPart& part : in.rules.parts) {
        const Range tile_sees = rules.visible(part, t0, count);
        if (tile_sees.empty()) continue;
        const int columns = static_cast<int>(tile_sees.end - tile_sees.begin);
        const auto near = rules.from(part, t0 + warp_row, tile_sees.begin);
        const T* k = in.k.at(b, part.first_row + tile_sees.begin, g);
        const T* v = in.v.at(b, part.first_row + tile_sees.begin, g);
        const auto load = [&](int tile, int stage) {
            if (tile == 0) {
                const HeadRows<const T>& query = in.query_rows(part);
                Rows::template load<kOwn>(q_tile, query, query.at(b, t0, h), count, in.dims);
            }
            Rows::template load<kOther>(k_tiles + stage * kTile, in.k, k, columns - tile * kOther, in.dims);
            Rows::template load<kOther>(v_tiles + stage * kTile, in.v, v, columns - tile * kOther, in.dims);
            k += kOther * in.k.row_stride;
            v += kOther * in.v.row_stride;
        };
        const auto compute = [&](int tile, int stage) {
            if (tile == 0) queries.read();
            if (warp_count <= 0) return;
            SIMT_NO_UNROLL
            for (int step = 0; step < kOther; step += kStep) {
                const int c0 = tile * kOther + step, at = stage * kTile + step * kDims;
                if (!near.meets(0, warp_count, c0, kStep)) continue;
                typename Shape::Products s;
                queries.multiply(s, k_tiles, Rows::place_b() + at);
                const MmaPlaces<Rows, false> places(0, c0);
                const float factor = logits.finish(s, near, places);
                if (c0 + kStep > columns || !near.holds(0, warp_count, c0, kStep)) hide(s, near, places, columns);
                typename Softmax::Decay decay;
                if (softmax.weigh(s, factor, decay)) Softmax::apply(decay, o);
                typename Shape::Weights p;
                round_weights<T>(p, s);
                add_weighted<T, Rows>(o, p, v_tiles, Rows::place_a() + at);
            }
        };
        walk_tiles((columns + kOther - 1) / kOther, load, compute);
    }

    softmax.template finish<Rows>(o, rules.sink_logit, warp_row, [&](int row, float value) {
        if (row < count) lse[(b * gridDim.y + h) * rules.steps + t0 + row] = value;
    });
    __syncwarp();  // the warp's rows of q are reused to stage its sums
    store_sums<T, Rows>(q_tile, warp_row, out, out.at(b, t0, h), count, in.dims, o, 0);
}

}  // namespace ballast::cuda
