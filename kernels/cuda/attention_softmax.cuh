// The running softmax of attention's forward pass over tiles of products in the m16n8 layout: those of mma.sync, and
// those of wgmma, where a warp has kRowTiles = 1.
#pragma once

#include "kernels/cuda/attention_mma_tile.cuh"

namespace ballast::cuda {

/// The running maximum (of logits times log2(e)) and sum of a lane's rows. The sum covers only the lane's own columns.
template <int kRowTiles>
struct MmaSoftmax {
    float maximum[kRowTiles][2], sum[kRowTiles][2];
    using Decay = float[kRowTiles][2];

    __device__ MmaSoftmax() {
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
            maximum[i][e] = kMinusInfinity<float>;
            sum[i][e] = 0;
        }
    }

    /// s becomes 2^(factor s - maximum), factor > 0. Returns true when the maximum of a row of the warp increased: then
    /// the earlier sums must be scaled down. Maxima soon stop increasing.
    template <int kTiles>
    __device__ __forceinline__ bool weigh(float (&s)[kRowTiles][kTiles][4], float factor, Decay& decay) {
        bool changed = false;
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
            float top = kMinusInfinity<float>;
            SIMT_UNROLL
            for (int n = 0; n < kTiles; ++n) top = fmaxf(top, fmaxf(s[i][n][2 * e], s[i][n][2 * e + 1]));
            SIMT_UNROLL
            for (int lanes = 1; lanes < 4; lanes *= 2) top = fmaxf(top, __shfl_xor_sync(kAllLanes, top, lanes));
            const float before = maximum[i][e], now = fmaxf(before, top * factor);
            const float base = now == kMinusInfinity<float> ? 0.0f : now;  // no visible key so far: all weights are 0
            decay[i][e] = simt::ptx::exp2_approximate(before - base);
            changed |= before != now;
            maximum[i][e] = now;
            float row_sum = 0;
            SIMT_UNROLL
            for (int n = 0; n < kTiles; ++n) SIMT_UNROLL
            for (int x = 2 * e; x < 2 * e + 2; ++x) {
                s[i][n][x] = simt::ptx::exp2_approximate(s[i][n][x] * factor - base);
                row_sum += s[i][n][x];
            }
            sum[i][e] = sum[i][e] * decay[i][e] + row_sum;
        }
        return __any_sync(kAllLanes, changed);
    }

    template <int kSumTiles>
    __device__ __forceinline__ static void apply(const Decay& decay, float (&o)[kRowTiles][kSumTiles][4]) {
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int n = 0; n < kSumTiles; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e) o[i][n][e] *= decay[i][e / 2];
    }

    /// Finishes the rows: o becomes the output, and one lane per row calls put(row, LSE'). The warp's first row is
    /// first_row.
    template <class Rows, int kSumTiles, class Put>
    __device__ __forceinline__ void finish(float (&o)[kRowTiles][kSumTiles][4], float sink_logit, int first_row,
                                           const Put& put) const {
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
            float total = sum[i][e];
            SIMT_UNROLL
            for (int lanes = 1; lanes < 4; lanes *= 2) total += __shfl_xor_sync(kAllLanes, total, lanes);
            const RowEnd<float> end = end_of_row(maximum[i][e] * kLn2, total, sink_logit);
            SIMT_UNROLL
            for (int n = 0; n < kSumTiles; ++n) SIMT_UNROLL
            for (int x = 2 * e; x < 2 * e + 2; ++x) o[i][n][x] *= end.weight;
            const int row = first_row + Rows::lane_row() + i * 16 + e * 8;
            if (Rows::lane_column() == 0) put(row, end.lse);
        }
    }
};

}  // namespace ballast::cuda
