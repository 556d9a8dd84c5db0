// The influence of attention entries on a linear loss, summed over blocks, and the attention mass of keys, summed over
// queries, on the plain multipliers (kernels/ops.h, attention_influence and attention_key_mass; CPU version:
// attention_measures.cpp).
//   influence   E = P' / (1 - P') (D - g), 1 - P' = -expm1(s - LSE'), g = dO V^T, D = rowsum(dO * O)
//               (E = -g in a row that sees one key and has no sink logit)
//   key mass    sum over queries of P' = exp(s - LSE')
// Shapes: sums A [B,H,I,J], I = ceil(T / block), J = ceil(S / block); mass A [B,H,S]; the rest as in attention_fma.cuh.
// Both are added to. Launch map (blocks of 128 threads, attention_tile.cuh):
//   influence   (cell (I, J), h, b); loops over the cell's rows and keys in tiles; cells that no query sees end at once
//   key mass    (tile of keys of one part, h, b); loops over the queries that see it
// Shared memory: the tiles' rows, in elements of A 2 (own + other) and own + other. No scratch memory: every cell
// computes D again. Deterministic: every sum has one owner and one order.
#pragma once

#include "kernels/cuda/attention_rules.cuh"
#include "kernels/cuda/attention_tile.cuh"

namespace ballast::cuda {

__device__ __forceinline__ float expm1_of(float x) { return expm1f(x); }
__device__ __forceinline__ double expm1_of(double x) { return expm1(x); }

/// Constants instead of calls, so that device code can use them.
template <class A>
inline constexpr A kEpsilon = std::numeric_limits<A>::epsilon();

template <class A, int kDims, int kMatrices>
constexpr simt::SmemPlan attention_measures_plan(int dims) {
    using Tile = AttentionTile<A, kDims>;
    simt::SmemPlan plan;
    for (int rows : {Tile::kOwn, Tile::kOther})
        for (int i = 0; i < kMatrices; ++i) plan = plus<A>(plan, rows * attention_stride(dims));
    return plus<A>(plan, kWarpSize);
}

/// Shared memory for tiles of own and other rows, each kMatrices times, and for the sums of warps.
template <class A, int kDims, int kMatrices>
constexpr simt::SharedBytes attention_measures_memory(int dims) {
    static_assert(sizeof(A) > 4 ||  // f64 is for the executor only
                  attention_measures_plan<A, kDims, kMatrices>(kDims).shared().bytes <= kSmallestMemory);
    return attention_measures_plan<A, kDims, kMatrices>(dims).shared();
}

/// The sum over the eight lanes of a row; every lane gets the result.
template <class A>
__device__ __forceinline__ A row_sum(A x) {
    SIMT_UNROLL
    for (int lanes = kRowLanes / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
    return x;
}

template <class T>
struct InfluenceOperands {
    using A = Accumulator<T>;
    HeadRows<const T> d_out, out;
    const A* lse;
    A *absolute, *signed_sum;  // null: not wanted
    int64_t block, keys, columns;
};

/// Loads a tile's keys and values to shared memory, with a barrier before and after.
template <class T>
__device__ void load_keys(Accumulator<T>* k, Accumulator<T>* v, int rows, const AttentionOperands<T>& in, int64_t b,
                          int64_t g, int64_t row, int64_t count) {
    __syncthreads();
    load_rows(k, rows, in.k.at(b, row, g), in.k.row_stride, count, in.dims, in.k.packed, Accumulator<T>(1));
    load_rows(v, rows, in.v.at(b, row, g), in.v.row_stride, count, in.dims, in.v.packed, Accumulator<T>(1));
    __syncthreads();
}

template <class T, int kDims, bool kByRow>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_influence_kernel(const __grid_constant__ InfluenceOperands<T> args,
                               const __grid_constant__ AttentionOperands<T> in) {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    constexpr int kRows = Tile::kRows, kOwn = Tile::kOwn, kOther = Tile::kOther;
    const int stride = attention_stride(in.dims);
    simt::Smem smem;
    A *q = take<A>(smem, kOwn * stride), *d_o = take<A>(smem, kOwn * stride);
    A *k = take<A>(smem, kOther * stride), *v = take<A>(smem, kOther * stride), *warps = take<A>(smem, kWarpSize);

    const int64_t h = blockIdx.y, b = blockIdx.z, g = h / in.group;
    const HeadRules<A, kByRow> rules(in.rules, b, h);
    const int64_t first_row = blockIdx.x / args.columns * args.block,
                  end_row = min(first_row + args.block, rules.steps);
    const int64_t first_key = blockIdx.x % args.columns * args.block, end_key = min(first_key + args.block, args.keys);
    // The visible range of queries [t, t + count) within the cell's columns of `part`.
    const auto visible_columns = [&](const KeyPart& part, int64_t t, int64_t count) {
        const Range sees = rules.visible(part, t, count);
        return Range{max(sees.begin, first_key - part.first_row), min(sees.end, end_key - part.first_row)};
    };
    if (visible_columns(in.rules.parts[0], first_row, end_row - first_row).empty() &&
        visible_columns(in.rules.parts[1], first_row, end_row - first_row).empty())
        return;

    A absolute = 0, total = 0;
    for (int64_t t0 = first_row; t0 < end_row; t0 += kOwn) {
        const int64_t count = min(int64_t{kOwn}, end_row - t0);
        for (const KeyPart& part : in.rules.parts) {
            const Range seen = visible_columns(part, t0, count);
            if (seen.empty()) continue;
            const HeadRows<const T>& query = in.query_rows(part);
            __syncthreads();
            load_rows(q, kOwn, query.at(b, t0, h), query.row_stride, count, in.dims, query.packed, in.scale);
            load_rows(d_o, kOwn, args.d_out.at(b, t0, h), args.d_out.row_stride, count, in.dims, args.d_out.packed,
                      A(1));
            __syncthreads();
            A lse[kRows], delta[kRows];
            bool alone[kRows];
            SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const bool there = Tile::row(i) < count;
                const int64_t t = t0 + Tile::row(i);
                A sum = 0;
                for (int d = Tile::row_lane(); there && d < in.dims; d += kRowLanes)
                    sum += d_o[Tile::row(i) * stride + d] * widen(args.out.at(b, t, h)[d]);
                delta[i] = row_sum(sum);
                lse[i] = there ? args.lse[(b * gridDim.y + h) * rules.steps + t] : A(0);
                int64_t keys = 0;
                for (const KeyPart& each : in.rules.parts) {
                    const Range sees = rules.visible(each, t, there);
                    if (!sees.empty()) keys += sees.end - sees.begin;
                }
                alone[i] = keys == 1 && rules.sink_logit == kMinusInfinity<A>;
            }
            for (int64_t c0 = seen.begin; c0 < seen.end; c0 += kOther) {
                const int64_t columns = min(int64_t{kOther}, seen.end - c0);
                typename Tile::Products s, d_p;
                load_keys(k, v, kOther, in, b, g, part.first_row + c0, columns);
                Tile::multiply(s, q, k, in.dims);
                Tile::multiply(d_p, d_o, v, in.dims);
                SIMT_UNROLL
                for (int i = 0; i < kRows; ++i) {
                    const int64_t t = t0 + Tile::row(i);
                    const Range sees = rules.visible(part, t, Tile::row(i) < count);
                    SIMT_UNROLL
                    for (int j = 0; j < Tile::kColumns; ++j) {
                        const int64_t c = c0 + Tile::column(j);
                        if (!sees.contains(c) || c >= seen.end) continue;
                        const A x = s[i][j] + rules.bias(part, t, c) - lse[i], rest = -expm1_of(x);
                        const A ratio = exp_of(x) / (rest < kEpsilon<A> ? kEpsilon<A> : rest);
                        const A e = alone[i] ? -d_p[i][j] : ratio * (delta[i] - d_p[i][j]);
                        total += e;
                        absolute += e < 0 ? -e : e;
                    }
                }
            }
        }
    }
    absolute = block_sum(absolute, warps);
    total = block_sum(total, warps);
    if (threadIdx.x != 0) return;
    const int64_t at = (b * gridDim.y + h) * gridDim.x + blockIdx.x;
    if (args.absolute != nullptr) args.absolute[at] += absolute;
    if (args.signed_sum != nullptr) args.signed_sum[at] += total;
}

/// One tile of keys. blockIdx.x counts the tiles of the first part, then those of the second.
template <class T, int kDims, bool kByRow>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_key_mass_kernel(Accumulator<T>* mass, const Accumulator<T>* lse,
                              const __grid_constant__ AttentionOperands<T> in, int64_t keys) {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    constexpr int kOwn = Tile::kOwn, kOther = Tile::kOther;
    const int stride = attention_stride(in.dims);
    simt::Smem smem;
    A *k = take<A>(smem, kOwn * stride), *q = take<A>(smem, kOther * stride);

    const int64_t first_tiles = (in.rules.parts[0].rows + kOwn - 1) / kOwn;
    const bool second = blockIdx.x >= first_tiles;
    const KeyPart& part = in.rules.parts[second];
    const int64_t c0 = (blockIdx.x - (second ? first_tiles : 0)) * kOwn, h = blockIdx.y, b = blockIdx.z;
    const int64_t row = part.first_row + c0, count = min(int64_t{kOwn}, part.rows - c0);
    load_rows(k, kOwn, in.k.at(b, row, h / in.group), in.k.row_stride, count, in.dims, in.k.packed, A(1));

    const HeadRows<const T>& query = in.query_rows(part);
    const HeadRules<A, kByRow> rules(in.rules, b, h);
    const A* row_lse = lse + (b * gridDim.y + h) * rules.steps;
    const Range seen = rules.seeing(part, c0, count);
    A sums[Tile::kRows] = {};
    for (int64_t t0 = seen.begin; t0 < seen.end; t0 += kOther) {
        const int64_t queries = min(int64_t{kOther}, seen.end - t0);
        __syncthreads();
        load_rows(q, kOther, query.at(b, t0, h), query.row_stride, queries, in.dims, query.packed, in.scale);
        __syncthreads();
        typename Tile::Products s;
        Tile::multiply(s, k, q, in.dims);
        SIMT_UNROLL
        for (int j = 0; j < Tile::kColumns; ++j) {
            const bool there = Tile::column(j) < queries;
            const int64_t t = t0 + Tile::column(j);
            const Range sees = rules.visible(part, t, there);
            const A shift = there ? row_lse[t] : A(0);
            SIMT_UNROLL
            for (int i = 0; i < Tile::kRows; ++i) {
                const int64_t c = c0 + Tile::row(i);
                if (sees.contains(c)) sums[i] += exp_of(s[i][j] + rules.bias(part, t, c) - shift);
            }
        }
    }
    SIMT_UNROLL
    for (int i = 0; i < Tile::kRows; ++i) {
        const A sum = row_sum(sums[i]);
        if (Tile::row_lane() == 0 && Tile::row(i) < count) mass[(b * gridDim.y + h) * keys + row + Tile::row(i)] += sum;
    }
}

}  // namespace ballast::cuda
