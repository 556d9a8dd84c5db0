// Attention on the plain multipliers: every dtype, any shape with D <= 256, any strides. The kernels of the CPU's
// attention_forward.cpp, attention_backward.cpp and attention_weights.cpp, cut for blocks; the formula is
// kernels/attention_variant.h's.
//   forward   s = scale q k^T + bias;  m' = max(m, s);  p = exp(s - m');  o = o exp(m - m') + p v;
//             l = l exp(m - m') + sum p  (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022);
//             at the end LSE' = logaddexp(m + log l, z), out = o exp(m - LSE')
//   backward  P' = exp(s - LSE');  D = rowsum(dO * O);  dP = dO V^T;  dS = P' * (dP - D)
//             dV = P'^T dO;  dK = scale dS^T Q;  dQ = scale dS K;  dz_h = -sum over rows of exp(z_h - LSE') D
// Shapes: q, out and their gradients T [B,T,H,D]; k, v and theirs T [B,S,G,D]; lse and D A [B,H,T]; z A [H].
// Saved: out and lse. Overwritten: everything, but dz, which is added to. Scratch memory, backward: D and
// the partial sums of dz.
// Launch map (blocks of 128 threads, attention_tile.cuh; 256 for dz):
//   forward, dQ   (tile of queries, h, b), the last tile first, since it sees the most keys; walks over those keys
//   dK and dV     (tile of keys of one part, g, b); walks over the group's heads and the queries that see the tile
//   D             eight lanes a row
//   dz            one block for kSinkLogitRows queries, then one a head for their sums
// Work follows the mask: tiles that no row sees are never loaded, and warps skip tiles that their rows do not see.
// Shared memory, in elements of A: forward (own + 2 other) rows, backward 2 (own + other) rows, and the weights
// [own][other]: 47 KB forward and 73 KB backward in f32 at D = 64, 85 KB backward at D = 256 (twice that in f64).
// Deterministic: every sum has one owner and one order; no atomics.
#pragma once

#include "kernels/cuda/attention_rules.cuh"
#include "kernels/cuda/attention_tile.cuh"

namespace ballast::cuda {

template <class A, int kDims>
constexpr simt::SmemPlan attention_forward_memory(int dims) {
    using Tile = AttentionTile<A, kDims>;
    simt::SmemPlan plan;
    for (int rows : {Tile::kOwn, Tile::kOther, Tile::kOther}) plan = plus<A>(plan, rows * attention_stride(dims));
    return plus<A>(plus<A>(plan, Tile::kOwn * Tile::kWeightStride), Tile::kOwn * kRowLanes);
}

template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_forward_kernel(const __grid_constant__ HeadRows<T> out, Accumulator<T>* lse,
                             const __grid_constant__ AttentionOperands<T> in) {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    constexpr int kRows = Tile::kRows, kOwn = Tile::kOwn, kOther = Tile::kOther;
    const int stride = attention_stride(in.dims);
    simt::Smem smem;
    A *q = take<A>(smem, kOwn * stride), *k = take<A>(smem, kOther * stride), *v = take<A>(smem, kOther * stride);
    A *p = take<A>(smem, kOwn * Tile::kWeightStride), *board = take<A>(smem, kOwn * kRowLanes);

    const int64_t t0 = int64_t{gridDim.x - 1 - blockIdx.x} * kOwn, h = blockIdx.y, b = blockIdx.z, g = h / in.group;
    const HeadRules<A, kByRow> rules(in.rules, b, h);
    const int64_t count = min(int64_t{kOwn}, rules.steps - t0), warp_t = t0 + Tile::warp_row();
    const int64_t warp_count = min(int64_t{Tile::kWarpRows}, rules.steps - warp_t);

    typename Tile::Sums o = {};
    A maximum[kRows], sum[kRows] = {};
    for (A& m : maximum) m = kMinusInfinity<A>;
    for (const KeyPart& part : in.rules.parts) {
        const Range tile_sees = rules.visible(part, t0, count), warp_sees = rules.visible(part, warp_t, warp_count);
        if (tile_sees.empty()) continue;
        const HeadRows<const T>& query = in.query_rows(part);
        __syncthreads();
        load_rows(q, kOwn, query.at(b, t0, h), query.row_stride, count, in.dims, query.packed, in.scale);
        for (int64_t c0 = tile_sees.begin; c0 < tile_sees.end; c0 += kOther) {
            const int64_t columns = min(int64_t{kOther}, tile_sees.end - c0), row = part.first_row + c0;
            __syncthreads();
            load_rows(k, kOther, in.k.at(b, row, g), in.k.row_stride, columns, in.dims, in.k.packed, A(1));
            load_rows(v, kOther, in.v.at(b, row, g), in.v.row_stride, columns, in.dims, in.v.packed, A(1));
            __syncthreads();
            if (!warp_sees.meets(c0, columns)) continue;

            typename Tile::Products s;
            A tile_maximum[kRows];
            bool seen[kRows][Tile::kColumns];
            Tile::multiply(s, q, k, in.dims);
            SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const int64_t t = t0 + Tile::row(i);
                const Range sees = rules.visible(part, t, t < rules.steps);
                tile_maximum[i] = kMinusInfinity<A>;
                SIMT_UNROLL
                for (int j = 0; j < Tile::kColumns; ++j) {
                    const int64_t c = c0 + Tile::column(j);
                    s[i][j] += rules.bias(part, t, c);
                    seen[i][j] = sees.contains(c);
                    if (seen[i][j] && tile_maximum[i] < s[i][j]) tile_maximum[i] = s[i][j];
                }
            }
            Tile::combine(board, tile_maximum, [](A x, A y) { return x < y ? y : x; });
            SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const A before = maximum[i];
                if (maximum[i] < tile_maximum[i]) maximum[i] = tile_maximum[i];
                if (before != maximum[i]) {
                    const A decay = exp_of(before - maximum[i]);
                    sum[i] *= decay;
                    Tile::scale(o, i, decay);
                }
                SIMT_UNROLL
                for (int j = 0; j < Tile::kColumns; ++j) {
                    s[i][j] = seen[i][j] ? exp_of(s[i][j] - maximum[i]) : A(0);
                    sum[i] += s[i][j];
                }
            }
            Tile::share(p, s);
            __syncwarp();
            Tile::add(o, p, v, columns, in.dims);
        }
    }

    Tile::combine(board, sum, [](A x, A y) { return x + y; });
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
        const RowEnd<A> end = end_of_row(maximum[i], sum[i], rules.sink_logit);
        Tile::scale(o, i, end.weight);
        if (Tile::row(i) < count && Tile::row_lane() == 0)
            lse[(b * gridDim.y + h) * rules.steps + t0 + Tile::row(i)] = end.lse;
    }
    Tile::store_rows(out.at(b, t0, h), out.row_stride, count, in.dims, out.packed, o);
}

/// delta [B,H,T] = rowsum(d_out * out). Blocks of kRowsAtOnce queries; blockIdx.y is the head, .z the batch.
template <class T>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_delta_kernel(Accumulator<T>* delta, HeadRows<const T> d_out, HeadRows<const T> out, int64_t steps,
                           int dims) {
    using A = Accumulator<T>;
    const int64_t t = int64_t{blockIdx.x} * kRowsAtOnce + threadIdx.x / kRowLanes, h = blockIdx.y, b = blockIdx.z;
    const int lane = static_cast<int>(threadIdx.x) % kRowLanes;
    const bool packed = d_out.packed && out.packed;
    A sum = 0;
    if (t < steps) {
        const T *x = d_out.at(b, t, h), *y = out.at(b, t, h);
        SIMT_UNROLL_BY(4)
        for (int d = lane * 4; d < dims; d += kChunk) {
            A u[4] = {}, v[4] = {};
            if (packed && d + 4 <= dims) {
                load(u, x + d);
                load(v, y + d);
            } else {
                for (int e = 0; e < min(4, dims - d); ++e) {
                    u[e] = widen(x[d + e]);
                    v[e] = widen(y[d + e]);
                }
            }
            SIMT_UNROLL
            for (int e = 0; e < 4; ++e) sum += u[e] * v[e];
        }
    }
    SIMT_UNROLL
    for (int lanes = kRowLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
    if (t < steps && lane == 0) delta[(b * gridDim.y + h) * steps + t] = sum;
}

inline constexpr int kSinkLogitThreads = 256, kSinkLogitRows = 1024;

/// partials [H][B][gridDim.x]: the sum of exp(z - lse) delta over kSinkLogitRows queries, in double. Grid as delta's.
template <class A>
__global__ void attention_sink_logit_kernel(double* partials, const A* sink_logit, const A* lse, const A* delta,
                                            int64_t steps) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    const int64_t heads = gridDim.y, h = blockIdx.y, b = blockIdx.z, first = int64_t{blockIdx.x} * kSinkLogitRows;
    const A z = sink_logit[h];
    double sum = 0;
    SIMT_UNROLL
    for (int i = 0; i < kSinkLogitRows; i += kSinkLogitThreads) {
        const int64_t t = first + i + threadIdx.x, n = (b * heads + h) * steps + t;
        const A row = t < steps ? delta[n] : A(0), logit = t < steps ? lse[n] : A(0);
        if (row != 0)
            sum += static_cast<double>(exp_of(z - logit)) * static_cast<double>(row);  // 0 where z = lse = -inf
    }
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) partials[(h * gridDim.z + b) * gridDim.x + blockIdx.x] = sum;
}

/// d_sink_logit[h] -= the head's `count` partial sums; block h.
template <class A>
__global__ void attention_sink_logit_sum_kernel(A* d_sink_logit, const double* partials, int64_t count) {
    SIMT_SHARED(double, warps, [kWarpSize]);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += kSinkLogitThreads) sum += partials[blockIdx.x * count + i];
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0)
        d_sink_logit[blockIdx.x] = static_cast<A>(static_cast<double>(d_sink_logit[blockIdx.x]) - sum);
}

template <class A, int kDims>
constexpr simt::SmemPlan attention_backward_memory(int dims) {
    using Tile = AttentionTile<A, kDims>;
    simt::SmemPlan plan;
    for (int rows : {Tile::kOwn, Tile::kOwn, Tile::kOther, Tile::kOther})
        plan = plus<A>(plan, rows * attention_stride(dims));
    for (int i = 0; i < 2; ++i) plan = plus<A>(plan, Tile::kOwn * Tile::kWeightStride);
    return plan;
}

/// d_q, and d_sink_query if present: then the keys of the first part contribute to d_sink_query, those of the second to
/// d_q.
template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_d_query_kernel(const __grid_constant__ HeadRows<T> d_q, const __grid_constant__ HeadRows<T> d_sink_query,
                             const __grid_constant__ AttentionSaved<T> saved,
                             const __grid_constant__ AttentionOperands<T> in) {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    constexpr int kRows = Tile::kRows, kOwn = Tile::kOwn, kOther = Tile::kOther;
    const int stride = attention_stride(in.dims);
    simt::Smem smem;
    A *q = take<A>(smem, kOwn * stride), *d_o = take<A>(smem, kOwn * stride);
    A *k = take<A>(smem, kOther * stride), *v = take<A>(smem, kOther * stride);
    A* weights = take<A>(smem, kOwn * Tile::kWeightStride);

    const int64_t t0 = int64_t{gridDim.x - 1 - blockIdx.x} * kOwn, h = blockIdx.y, b = blockIdx.z, g = h / in.group;
    const HeadRules<A, kByRow> rules(in.rules, b, h);
    const int64_t count = min(int64_t{kOwn}, rules.steps - t0), warp_t = t0 + Tile::warp_row();
    const int64_t warp_count = min(int64_t{Tile::kWarpRows}, rules.steps - warp_t);
    A lse[kRows], delta[kRows];
    SIMT_UNROLL
    for (int i = 0; i < kRows; ++i) {
        const int64_t n = (b * gridDim.y + h) * rules.steps + t0 + Tile::row(i);
        lse[i] = Tile::row(i) < count ? saved.lse[n] : A(0);
        delta[i] = Tile::row(i) < count ? saved.delta[n] : A(0);
    }
    load_rows(d_o, kOwn, saved.d_out.at(b, t0, h), saved.d_out.row_stride, count, in.dims, saved.d_out.packed, A(1));

    typename Tile::Sums sums = {};
    for (const KeyPart& part : in.rules.parts) {
        const Range tile_sees = rules.visible(part, t0, count), warp_sees = rules.visible(part, warp_t, warp_count);
        const HeadRows<const T>& query = in.query_rows(part);
        __syncthreads();
        load_rows(q, kOwn, query.at(b, t0, h), query.row_stride, count, in.dims, query.packed, in.scale);
        for (int64_t c0 = tile_sees.begin; c0 < tile_sees.end; c0 += kOther) {
            const int64_t columns = min(int64_t{kOther}, tile_sees.end - c0), row = part.first_row + c0;
            __syncthreads();
            load_rows(k, kOther, in.k.at(b, row, g), in.k.row_stride, columns, in.dims, in.k.packed, A(1));
            load_rows(v, kOther, in.v.at(b, row, g), in.v.row_stride, columns, in.dims, in.v.packed, A(1));
            __syncthreads();
            if (!warp_sees.meets(c0, columns)) continue;

            typename Tile::Products s, d_p;
            Tile::multiply(s, q, k, in.dims);
            Tile::multiply(d_p, d_o, v, in.dims);
            SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const int64_t t = t0 + Tile::row(i);
                const Range sees = rules.visible(part, t, t < rules.steps);
                SIMT_UNROLL
                for (int j = 0; j < Tile::kColumns; ++j) {
                    const int64_t c = c0 + Tile::column(j);
                    const A logit = s[i][j] + rules.bias(part, t, c);
                    s[i][j] = sees.contains(c) ? exp_of(logit - lse[i]) * (d_p[i][j] - delta[i]) : A(0);
                }
            }
            Tile::share(weights, s);
            __syncwarp();
            Tile::add(sums, weights, k, columns, in.dims);
        }
        const HeadRows<T>& to = part.sinks ? d_sink_query : d_q;
        if (to.data == nullptr) continue;  // sinks without their own query: they add to d_q
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) Tile::scale(sums, i, in.scale);
        Tile::store_rows(to.at(b, t0, h), to.row_stride, count, in.dims, to.packed, sums);
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) Tile::scale(sums, i, A(0));
    }
}

/// d_k and d_v of one tile of keys. blockIdx.x counts the tiles of the first part, then those of the second.
template <class T, int kDims, bool kByRow = false>
__global__ void __launch_bounds__(kAttentionThreads)
    attention_d_key_kernel(const __grid_constant__ HeadRows<T> d_k, const __grid_constant__ HeadRows<T> d_v,
                           const __grid_constant__ AttentionSaved<T> saved,
                           const __grid_constant__ AttentionOperands<T> in) {
    using A = Accumulator<T>;
    using Tile = AttentionTile<A, kDims>;
    constexpr int kOwn = Tile::kOwn, kOther = Tile::kOther;
    const int stride = attention_stride(in.dims);
    simt::Smem smem;
    A *k = take<A>(smem, kOwn * stride), *v = take<A>(smem, kOwn * stride);
    A *q = take<A>(smem, kOther * stride), *d_o = take<A>(smem, kOther * stride);
    A *p = take<A>(smem, kOwn * Tile::kWeightStride), *d_s = take<A>(smem, kOwn * Tile::kWeightStride);

    const int64_t first_tiles = (in.rules.parts[0].rows + kOwn - 1) / kOwn;
    const bool second = blockIdx.x >= first_tiles;
    const KeyPart& part = in.rules.parts[second];
    const int64_t c0 = (blockIdx.x - (second ? first_tiles : 0)) * kOwn, g = blockIdx.y, b = blockIdx.z;
    const int64_t row = part.first_row + c0, count = min(int64_t{kOwn}, part.rows - c0);
    const int64_t warp_c = c0 + Tile::warp_row(), warp_count = min(int64_t{Tile::kWarpRows}, part.rows - warp_c);
    load_rows(k, kOwn, in.k.at(b, row, g), in.k.row_stride, count, in.dims, in.k.packed, A(1));
    load_rows(v, kOwn, in.v.at(b, row, g), in.v.row_stride, count, in.dims, in.v.packed, A(1));

    const HeadRows<const T>& query = in.query_rows(part);
    typename Tile::Sums sums_k = {}, sums_v = {};
    for (int64_t h = g * in.group; h < (g + 1) * in.group; ++h) {
        const HeadRules<A, kByRow> rules(in.rules, b, h);
        const int64_t head_row = (b * gridDim.y * in.group + h) * rules.steps;
        const Range tile_seen = rules.seeing(part, c0, count), warp_seen = rules.seeing(part, warp_c, warp_count);
        for (int64_t t0 = tile_seen.begin; t0 < tile_seen.end; t0 += kOther) {
            const int64_t queries = min(int64_t{kOther}, tile_seen.end - t0);
            __syncthreads();
            load_rows(q, kOther, query.at(b, t0, h), query.row_stride, queries, in.dims, query.packed, in.scale);
            load_rows(d_o, kOther, saved.d_out.at(b, t0, h), saved.d_out.row_stride, queries, in.dims,
                      saved.d_out.packed, A(1));
            __syncthreads();
            if (!warp_seen.meets(t0, queries)) continue;

            typename Tile::Products s, d_p;
            A lse[Tile::kColumns], delta[Tile::kColumns];
            Tile::multiply(s, k, q, in.dims);
            Tile::multiply(d_p, v, d_o, in.dims);
            Range sees[Tile::kColumns];
            SIMT_UNROLL
            for (int j = 0; j < Tile::kColumns; ++j) {
                const bool there = Tile::column(j) < queries;
                lse[j] = there ? saved.lse[head_row + t0 + Tile::column(j)] : A(0);
                delta[j] = there ? saved.delta[head_row + t0 + Tile::column(j)] : A(0);
                sees[j] = rules.visible(part, t0 + Tile::column(j), there);
            }
            SIMT_UNROLL
            for (int i = 0; i < Tile::kRows; ++i) {
                const int64_t c = c0 + Tile::row(i);
                SIMT_UNROLL
                for (int j = 0; j < Tile::kColumns; ++j) {
                    const bool seen = sees[j].contains(c);
                    const A logit = s[i][j] + rules.bias(part, t0 + Tile::column(j), c);
                    s[i][j] = seen ? exp_of(logit - lse[j]) : A(0);
                    d_p[i][j] = seen ? s[i][j] * (d_p[i][j] - delta[j]) : A(0);
                }
            }
            Tile::share(p, s);
            Tile::share(d_s, d_p);
            __syncwarp();
            Tile::add(sums_v, p, d_o, queries, in.dims);
            Tile::add(sums_k, d_s, q, queries, in.dims);
        }
    }
    Tile::store_rows(d_k.at(b, row, g), d_k.row_stride, count, in.dims, d_k.packed, sums_k);
    Tile::store_rows(d_v.at(b, row, g), d_v.row_stride, count, in.dims, d_v.packed, sums_v);
}

/// scores [B,H,T,S] = P', or, without lse, the logits. One thread per element, `count` elements.
template <class T>
__global__ void attention_scores_kernel(Accumulator<T>* scores, const Accumulator<T>* lse,
                                        const __grid_constant__ AttentionOperands<T> in, int64_t heads, int64_t keys,
                                        int64_t count) {
    using A = Accumulator<T>;
    const int64_t n = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (n >= count) return;
    const int64_t row = n % keys, bht = n / keys, t = bht % in.rules.steps, h = bht / in.rules.steps % heads;
    const int64_t b = bht / in.rules.steps / heads;
    const KeyPart& part = in.rules.parts[row >= in.rules.parts[0].rows];
    const int64_t c = row - part.first_row;
    const HeadRules<A, true> rules(in.rules, b, h);
    A score = lse != nullptr ? A(0) : kMinusInfinity<A>;
    if (rules.visible(part, t).contains(c)) {
        const T *q = in.query_rows(part).at(b, t, h), *k = in.k.at(b, row, h / in.group);
        A product = 0;
        for (int d = 0; d < in.dims; ++d) product += widen(q[d]) * widen(k[d]);
        score = product * in.scale + rules.bias(part, t, c);
        if (lse != nullptr) score = exp_of(score - lse[bht]);
    }
    scores[n] = score;
}

}  // namespace ballast::cuda
