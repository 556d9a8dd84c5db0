// The effect of a shorter span on the loss, on the plain multipliers (kernels/ops.h, attention_span_effect; CPU
// version: attention_span_effect.cpp).
//   by query and bin of distance   P' = exp(s - LSE') and W = P' (D - g), g = dO V^T, D = rowsum(dO * O)
//   E_m                            (W of the bins from m on) / (P' of the bins before m, the sinks and the sink logit)
// Shapes: effect A [B,H,M], added to; the rest as in attention_fma.cuh. Scratch: mass and change A [B,H,T,M + 1], the
// tiles' sums A [B,H,tiles,M].
// Launch map: (tile of queries, h, b), blocks of 128 threads (attention_tile.cuh), then a thread for each (b, h, m).
// Shared memory: the tiles' rows, in elements of A 2 (own + other). Deterministic: a bin belongs to a query's first
// lane, which adds tiles of keys in their order; queries and tiles of queries are added in theirs.
#pragma once

#include "kernels/cuda/attention_measures.cuh"

namespace ballast::cuda {

template <class T>
struct SpanEffectOperands {
    using A = Accumulator<T>;
    HeadRows<const T> d_out, out;
    const A* lse;
    A *mass, *change, *tile_sums;
    int64_t block, sinks, spans;
};

template <class T, int kDims, bool kByRow>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_span_effect_kernel(const __grid_constant__ SpanEffectOperands<T> args,
                                 const __grid_constant__ AttentionOperands<T> in) {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    constexpr int kRows = Tile::kRows, kColumns = Tile::kColumns, kOwn = Tile::kOwn, kOther = Tile::kOther;
    const int stride = attention_stride(in.dims);
    simt::Smem smem;
    A *q = take<A>(smem, kOwn * stride), *d_o = take<A>(smem, kOwn * stride);
    A *k = take<A>(smem, kOther * stride), *v = take<A>(smem, kOther * stride);

    const int64_t h = blockIdx.y, b = blockIdx.z, g = h / in.group, bh = b * gridDim.y + h, bins = args.spans + 1;
    const HeadRules<A, kByRow> rules(in.rules, b, h);
    const int64_t t0 = int64_t{blockIdx.x} * kOwn, count = min(int64_t{kOwn}, rules.steps - t0);
    A *mass = args.mass + (bh * rules.steps + t0) * bins, *change = args.change + (bh * rules.steps + t0) * bins;
    for (int64_t i = threadIdx.x; i < count * bins; i += kAttentionThreads) mass[i] = change[i] = 0;

    load_rows(d_o, kOwn, args.d_out.at(b, t0, h), args.d_out.row_stride, count, in.dims, args.d_out.packed, A(1));
    __syncthreads();
    A lse[kRows], delta[kRows], always[kRows] = {};
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
        const bool there = Tile::row(i) < count;
        A sum = 0;
        for (int d = Tile::row_lane(); there && d < in.dims; d += kRowLanes)
            sum += d_o[Tile::row(i) * stride + d] * widen(args.out.at(b, t0 + Tile::row(i), h)[d]);
        delta[i] = row_sum(sum);
        lse[i] = there ? args.lse[bh * rules.steps + t0 + Tile::row(i)] : A(0);
    }
    for (const KeyPart& part : in.rules.parts) {
        const Range seen = rules.visible(part, t0, count);
        if (seen.empty()) continue;
        const HeadRows<const T>& query = in.query_rows(part);
        __syncthreads();
        load_rows(q, kOwn, query.at(b, t0, h), query.row_stride, count, in.dims, query.packed, in.scale);
        for (int64_t c0 = seen.begin; c0 < seen.end; c0 += kOther) {
            const int64_t columns = min(int64_t{kOther}, seen.end - c0);
            typename Tile::Products s, d_p;
            load_keys(k, v, kOther, in, b, g, part.first_row + c0, columns);
            Tile::multiply(s, q, k, in.dims);
            Tile::multiply(d_p, d_o, v, in.dims);
            SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const bool there = Tile::row(i) < count;
                const int64_t t = t0 + Tile::row(i), position = there ? rules.position(t) : 0;
                const Range sees = rules.visible(part, t, there);
                A p[kColumns], w[kColumns];
                int64_t bin[kColumns];
                SIMT_UNROLL
                for (int j = 0; j < kColumns; ++j) {
                    const int64_t c = c0 + Tile::column(j), key = part.position + c;
                    const bool shown = sees.contains(c) && c < seen.end;
                    p[j] = shown ? exp_of(s[i][j] + rules.bias(part, t, c) - lse[i]) : A(0);
                    w[j] = p[j] * (delta[i] - d_p[i][j]);
                    const bool far = shown && key >= args.sinks;
                    bin[j] = far ? min((position - key) / args.block, args.spans) : -1;
                    if (shown && !far) always[i] += p[j];
                }
                // Bins decrease with the column. All lanes have the same loop count, because they exchange values.
                const int64_t distance = position - (part.position + c0 + columns - 1);  // to the last column
                const int64_t first_bin = distance < 0 ? 0 : min(distance / args.block, args.spans);
                for (int64_t n = 0; n <= kOther / args.block + 1; ++n) {
                    A bin_mass = 0, bin_change = 0;
                    SIMT_UNROLL
                    for (int j = 0; j < kColumns; ++j)
                        if (bin[j] == first_bin + n) bin_mass += p[j], bin_change += w[j];
                    bin_mass = row_sum(bin_mass);
                    bin_change = row_sum(bin_change);
                    if (Tile::row_lane() != 0 || !there || first_bin + n > args.spans) continue;
                    mass[Tile::row(i) * bins + first_bin + n] += bin_mass;
                    change[Tile::row(i) * bins + first_bin + n] += bin_change;
                }
            }
        }
    }
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
        A kept = row_sum(always[i]), hidden = 0;
        if (rules.sink_logit != kMinusInfinity<A>) kept += exp_of(rules.sink_logit - lse[i]);
        if (Tile::row_lane() != 0 || Tile::row(i) >= count) continue;
        A *row_mass = mass + Tile::row(i) * bins, *row_change = change + Tile::row(i) * bins;
        for (int64_t m = 0; m < args.spans; ++m) row_mass[m] = kept += row_mass[m];  // the weights kept by span m + 1
        for (int64_t m = args.spans; m > 0; --m) {
            hidden += row_change[m];
            const A stays = row_mass[m - 1];
            row_change[m] = hidden / (stays < kEpsilon<A> ? kEpsilon<A> : stays);
        }
    }
    __syncthreads();
    for (int64_t m = threadIdx.x; m < args.spans; m += kAttentionThreads) {
        A sum = 0;
        for (int64_t r = 0; r < count; ++r) sum += change[r * bins + m + 1];
        args.tile_sums[(bh * gridDim.x + blockIdx.x) * args.spans + m] = sum;
    }
}

/// effect[b,h,m] += the sum over tiles.
template <class A>
__global__ void add_span_effects_kernel(A* effect, const A* tile_sums, int64_t count, int64_t spans, int64_t tiles) {
    const int64_t n = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (n >= count) return;
    A sum = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) sum += tile_sums[(n / spans * tiles + tile) * spans + n % spans];
    effect[n] += sum;
}

}  // namespace ballast::cuda
