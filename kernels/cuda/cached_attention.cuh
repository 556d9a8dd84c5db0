// One query per sequence against a paged cache, in splits (flash-decoding, Dao et al. 2023), with powers of two:
//   split   s = log2(e) (scale q k^T + bias);  m = max s;  p = 2^(s - m);  l = sum p;  o = sum p v
//   merge   m = max over splits;  l, o = sums of theirs times 2^(m_split - m), in their order; out = o 2^m / e^LSE',
//           LSE' = logaddexp(m ln 2 + log l, z): the sink logit once, here
//   mass    += sum over a group's heads of 2^(s - LSE' log2(e))
// cached_attention_mma.cuh has the splits of several 16-bit heads that share a key-value head.
// Shapes: q, out T [B,H,D]; the cache C [P,64,D], C = T or narrower with T = f32. Lengths, tables, positions and the
// list of work items are read when the kernels run, so recorded work stays valid. Everything except the mass is
// overwritten.
//
// Launch map: one block of 128 threads per work item (b, g, split) and, where a group has more than kHeads heads, per
// run of heads. kLanes neighbouring lanes share a slot. Each lane has packs of 16 bytes of its row, and keeps the
// running maximum, sum and values of all the heads: a row of K and a row of V are loaded once. The 128 / kLanes lane
// groups of a block take slots in turn, with the loads of kSlotsAtOnce slots in flight, and are merged at the end,
// first within warps, then over warps. Rows that no head of the run sees are not loaded. Merge: one block per row (b,
// h). Mass: one block per work item. Shared memory: 4 (kDims + 2) kHeads values. Bound by memory: the bytes of the
// visible rows. Deterministic: every sum has one order, which depends on the slots alone.
#pragma once

#include "kernels/cached_attention_scratch.h"
#include "kernels/cuda/attention_mma_tile.cuh"
#include "kernels/cuda/cache.cuh"

namespace ballast::cuda {

inline constexpr int kCachedThreads = 128, kCachedWarps = kCachedThreads / static_cast<int>(kWarpSize);
/// The number of slots whose loads a lane group has in flight. With the sums of four heads, more slots do not fit into
/// 255 registers.
template <int kHeads>
inline constexpr int kSlotsAtOnce = kHeads > 1 ? 2 : 4;

/// A constant instead of a call, so that device code can use it.
template <class A>
inline constexpr A kNotANumber = std::numeric_limits<A>::quiet_NaN();

inline constexpr int64_t kSplitBlocks = ops::kCacheSplitSlots / ops::kCacheBlockRows;

/// cached_attention_splits() for device code.
__device__ __forceinline__ int64_t num_splits(int64_t length) {
    return (length + ops::kCacheSplitSlots - 1) / ops::kCacheSplitSlots;
}

__device__ __forceinline__ float exp2_of(float x) { return simt::ptx::exp2_approximate(x); }
__device__ __forceinline__ double exp2_of(double x) { return exp2(x); }

/// The division of a cached row: kPacks packs of kSize elements per lane, kLanes lanes.
template <class C, int kDims>
struct CachedRow {
    static constexpr int kSize = kPackSize<C>;
    static constexpr int kLanes = kDims / kSize < 32 ? kDims / kSize : 32;
    static constexpr int kPacks = kDims / (kSize * kLanes), kElements = kPacks * kSize;
    static constexpr int kGroups = kCachedThreads / kLanes;
    using Elements = Pack<C, kSize>[kPacks];

    __device__ static int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
    __device__ static int group() { return static_cast<int>(threadIdx.x) / kLanes; }
    /// The dim of a lane's element e.
    __device__ static int dim(int e) { return (e / kSize * kLanes + lane()) * kSize + e % kSize; }

    __device__ static void load_row(Elements& to, const C* row, int dims, bool packed) {
        SIMT_UNROLL
        for (int p = 0; p < kPacks; ++p) {
            const int d = dim(p * kSize);
            if (packed && d + kSize <= dims) {
                to[p] = *reinterpret_cast<const Pack<C, kSize>*>(row + d);
            } else {
                SIMT_UNROLL
                for (int e = 0; e < kSize; ++e) to[p].v[e] = d + e < dims ? row[d + e] : narrow<C>(0);
            }
        }
    }
};

/// The operands of the kernels.
template <class T, class C>
struct CachedOperands {
    using A = Accumulator<T>;
    MatrixRows<const T> q, sink_query;  // sink_query.data null: q
    MatrixRows<T> out;
    CacheMemory<const C> cache;
    CacheTable table;
    const int32_t *query_position, *items, *first;
    int32_t num_items;
    int heads_per_group, dims, sinks, sink_query_position;
    bool packed;  // 16 bytes of a cached row can be moved by one instruction
    A scale;
    const int32_t* span_H;          // null: no limit
    const A* alibi_slope_H;         // null: no bias
    const A* learned_sink_logit_H;  // null: fixed_sink_logit
    A fixed_sink_logit;
    int64_t sequences, mass_blocks;
    CachedAttentionPartials<A> partials;

    /// The index of the partial result of (b, g) and `split` for the group's first head; < 0: there is no room.
    __device__ int64_t place(int64_t bg, int64_t split) const {
        const int64_t partial = first[bg] + split;
        return partial < first[bg + 1] && partial < num_items ? partial * heads_per_group : -1;
    }
    /// False when item n is empty; otherwise sets its b, g, split and first index.
    __device__ bool item(int64_t n, int& b, int& g, int& split, int64_t& at) const {
        b = items[3 * n], g = items[3 * n + 1], split = items[3 * n + 2];
        if (b < 0) return false;
        const int64_t bg = b * table.groups + g;
        if (split >= num_splits(table.lengths[bg])) return false;
        at = place(bg, split);
        return at >= 0;
    }
};

/// The row of a slot in the cache, and its position. Empty and unused slots have position -1; block < 0: the table is
/// invalid.
struct CachedSlot {
    int64_t row;
    int position;
    bool wrong;

    template <class C>
    __device__ CachedSlot(const CacheMemory<const C>& cache, const CacheTable& table, int64_t bg, int64_t slot)
        : row(-1), position(-1), wrong(false) {
        if (slot >= table.lengths[bg]) return;
        const int64_t w = slot / ops::kCacheBlockRows,
                      block = w < table.width ? table.blocks[bg * table.width + w] : -1;
        wrong = block < 0 || block >= cache.blocks;
        if (wrong) return;
        row = block * ops::kCacheBlockRows + slot % ops::kCacheBlockRows;
        position = cache.positions[row];
    }
};

/// The running maximum, sum and values of a lane group for one head.
template <class A, int kElements>
struct CachedSums {
    A maximum = kMinusInfinity<A>, sum = 0, values[kElements] = {};

    /// Merges with the sums of another lane group.
    __device__ void add(const CachedSums& other) {
        const A top = maximum < other.maximum ? other.maximum : maximum;
        if (top == kMinusInfinity<A>) {  // neither has a visible key; a NaN stays
            sum += other.sum;
            return;
        }
        const A mine = exp2_of(maximum - top), theirs = exp2_of(other.maximum - top);
        maximum = top;
        sum = sum * mine + other.sum * theirs;
        SIMT_UNROLL
        for (int e = 0; e < kElements; ++e) values[e] = values[e] * mine + other.values[e] * theirs;
    }
};

template <class T, class C, int kDims, int kHeads>
__global__ void __launch_bounds__(kCachedThreads)
    cached_attention_split_kernel(const __grid_constant__ CachedOperands<T, C> in) {
    using A = Accumulator<T>;
    using Row = CachedRow<C, kDims>;
    constexpr int kSlots = kSlotsAtOnce<kHeads>;
    SIMT_SHARED(A, board, [kCachedWarps][kHeads][kDims + 2]);
    int b, g, split;
    int64_t place;
    if (!in.item(blockIdx.x, b, g, split, place)) return;
    const int first_head = static_cast<int>(blockIdx.y) * kHeads, heads = min(kHeads, in.heads_per_group - first_head);
    const int64_t bg = b * in.table.groups + g, h0 = g * in.heads_per_group + first_head;
    const int query = in.query_position[b];
    const A log2e = A(1.4426950408889634);

    A q[kHeads][Row::kElements], slope[kHeads];
    int span[kHeads], widest = 0;
    SIMT_UNROLL
    for (int h = 0; h < kHeads; ++h) {
        const bool there = h < heads;
        const int limit = there && in.span_H != nullptr ? in.span_H[h0 + h] : -1;
        span[h] = limit < 0 ? INT32_MAX : limit;
        if (there) widest = max(widest, span[h]);
        slope[h] = there && in.alibi_slope_H != nullptr ? in.alibi_slope_H[h0 + h] * log2e : A(0);
        SIMT_UNROLL
        for (int e = 0; e < Row::kElements; ++e) {
            const int d = Row::dim(e);
            q[h][e] = there && d < in.dims ? widen(in.q.at(b, h0 + h)[d]) * (in.scale * log2e) : A(0);
        }
    }

    CachedSums<A, Row::kElements> sums[kHeads];
    const int64_t slot0 = int64_t{split} * ops::kCacheSplitSlots;
    const bool has_mass = in.partials.logits != nullptr && split * kSplitBlocks < in.mass_blocks;
    const int64_t used = has_mass ? ops::kCacheSplitSlots : in.table.lengths[bg] - slot0;
    for (int begin = 0; begin < min(used, ops::kCacheSplitSlots); begin += kSlots * Row::kGroups) {
        typename Row::Elements k[kSlots], v[kSlots];
        int position[kSlots];
        bool seen[kSlots], wrong[kSlots];
        SIMT_UNROLL
        for (int u = 0; u < kSlots; ++u) {
            const int i = begin + u * Row::kGroups + Row::group();
            const CachedSlot slot(in.cache, in.table, bg, i < ops::kCacheSplitSlots ? slot0 + i : INT64_MAX);
            const int j = slot.position;
            position[u] = j, wrong[u] = slot.wrong;
            seen[u] = j >= 0 && j <= query && (j < in.sinks || query - j <= widest);
            if (!seen[u]) {
                SIMT_UNROLL
                for (auto* x : {&k[u], &v[u]}) SIMT_UNROLL
                for (int p = 0; p < Row::kPacks; ++p) SIMT_UNROLL
                for (int e = 0; e < Row::kSize; ++e) (*x)[p].v[e] = narrow<C>(0);
                continue;
            }
            Row::load_row(k[u], in.cache.keys + slot.row * in.dims, in.dims, in.packed);
            Row::load_row(v[u], in.cache.values + slot.row * in.dims, in.dims, in.packed);
        }

        A s[kHeads][kSlots];
        SIMT_UNROLL
        for (int u = 0; u < kSlots; ++u) {
            const bool sink = seen[u] && position[u] < in.sinks && in.sink_query.data != nullptr;
            SIMT_UNROLL
            for (int h = 0; h < kHeads; ++h) {
                A sum = 0;
                SIMT_UNROLL
                for (int e = 0; e < Row::kElements; ++e) {
                    A x = q[h][e];
                    if (sink) {
                        const int d = Row::dim(e);
                        x = h < heads && d < in.dims ? widen(in.sink_query.at(b, h0 + h)[d]) * (in.scale * log2e)
                                                     : A(0);
                    }
                    sum += x * widen(k[u][e / Row::kSize].v[e % Row::kSize]);
                }
                s[h][u] = sum;
            }
        }
        SIMT_UNROLL
        for (int lanes = Row::kLanes / 2; lanes > 0; lanes /= 2) SIMT_UNROLL
        for (int h = 0; h < kHeads; ++h) SIMT_UNROLL
        for (int u = 0; u < kSlots; ++u) s[h][u] += __shfl_xor_sync(kAllLanes, s[h][u], lanes);

        SIMT_UNROLL
        for (int h = 0; h < kHeads; ++h) {
            A top = sums[h].maximum;
            SIMT_UNROLL
            for (int u = 0; u < kSlots; ++u) {
                const int j = position[u], stands = j < in.sinks ? min(query, in.sink_query_position) : query;
                s[h][u] += slope[h] * static_cast<A>(j - stands);
                if (!seen[u] || !(j < in.sinks || query - j <= span[h])) s[h][u] = kMinusInfinity<A>;
                if (wrong[u]) s[h][u] = kNotANumber<A>;
                if (top < s[h][u]) top = s[h][u];
                const int i = begin + u * Row::kGroups + Row::group();
                if (has_mass && h < heads && Row::lane() == 0 && i < ops::kCacheSplitSlots)
                    in.partials.logits[(place + first_head + h) * ops::kCacheSplitSlots + i] = s[h][u];
            }
            const A base = top == kMinusInfinity<A> ? A(0) : top;  // no visible key so far: all weights are 0
            const A decay = exp2_of(sums[h].maximum - base);
            sums[h].maximum = top;
            sums[h].sum *= decay;
            SIMT_UNROLL
            for (int e = 0; e < Row::kElements; ++e) sums[h].values[e] *= decay;
            SIMT_UNROLL
            for (int u = 0; u < kSlots; ++u) {
                const A p = exp2_of(s[h][u] - base);
                sums[h].sum += p;
                SIMT_UNROLL
                for (int e = 0; e < Row::kElements; ++e)
                    sums[h].values[e] += p * widen(v[u][e / Row::kSize].v[e % Row::kSize]);
            }
        }
    }

    SIMT_UNROLL
    for (int h = 0; h < kHeads; ++h) {
        SIMT_UNROLL
        for (int lanes = Row::kLanes; lanes < static_cast<int>(kWarpSize); lanes *= 2) {
            CachedSums<A, Row::kElements> other;
            other.maximum = __shfl_xor_sync(kAllLanes, sums[h].maximum, lanes);
            other.sum = __shfl_xor_sync(kAllLanes, sums[h].sum, lanes);
            SIMT_UNROLL
            for (int e = 0; e < Row::kElements; ++e)
                other.values[e] = __shfl_xor_sync(kAllLanes, sums[h].values[e], lanes);
            sums[h].add(other);
        }
        const int warp = static_cast<int>(threadIdx.x / kWarpSize);
        if (threadIdx.x % kWarpSize < Row::kLanes) {
            SIMT_UNROLL
            for (int e = 0; e < Row::kElements; ++e) board[warp][h][Row::dim(e)] = sums[h].values[e];
            if (Row::lane() == 0) {
                board[warp][h][kDims] = sums[h].maximum;
                board[warp][h][kDims + 1] = sums[h].sum;
            }
        }
    }
    __syncthreads();
    for (int n = static_cast<int>(threadIdx.x); n < heads * in.dims; n += kCachedThreads) {
        const int h = n / in.dims, d = n % in.dims;
        CachedSums<A, 1> total;
        SIMT_UNROLL
        for (int warp = 0; warp < kCachedWarps; ++warp) {
            CachedSums<A, 1> one;
            one.maximum = board[warp][h][kDims], one.sum = board[warp][h][kDims + 1];
            one.values[0] = board[warp][h][d];
            total.add(one);
        }
        const int64_t to = place + first_head + h;
        in.partials.values[to * in.dims + d] = total.values[0];
        if (d == 0) in.partials.maximum[to] = total.maximum, in.partials.sum[to] = total.sum;
    }
}

/// Merges the splits of row blockIdx.x = b * H + h.
template <class T, class C>
__global__ void __launch_bounds__(kCachedThreads)
    cached_attention_merge_kernel(const __grid_constant__ CachedOperands<T, C> in, int64_t heads) {
    using A = Accumulator<T>;
    const int64_t b = blockIdx.x / heads, h = blockIdx.x % heads, r = h % in.heads_per_group;
    const int64_t bg = b * in.table.groups + h / in.heads_per_group;
    const int64_t splits = num_splits(in.table.lengths[bg]);
    const int64_t first = splits > 0 ? in.place(bg, 0) : 0;
    const bool room = splits == 0 || in.place(bg, splits - 1) >= 0;
    const A* maxima = in.partials.maximum + first + r;
    const A* parts = in.partials.sum + first + r;
    A maximum = kMinusInfinity<A>, sum = room ? A(0) : kNotANumber<A>;
    for (int64_t s = 0; room && s < splits; ++s) {
        const A m = maxima[s * in.heads_per_group];
        if (maximum < m) maximum = m;
    }
    const A z = in.learned_sink_logit_H != nullptr ? in.learned_sink_logit_H[h] : in.fixed_sink_logit;
    for (int d = static_cast<int>(threadIdx.x); d < in.dims; d += kCachedThreads) {
        A value = 0, total = sum;
        for (int64_t s = 0; room && s < splits; ++s) {
            const A part = parts[s * in.heads_per_group];
            if (part == 0) continue;  // the split has no visible key
            const A weight = exp2_of(maxima[s * in.heads_per_group] - maximum);
            total += part * weight;
            value += in.partials.values[(first + s * in.heads_per_group + r) * in.dims + d] * weight;
        }
        const RowEnd<A> end = end_of_row(maximum * A(0.6931471805599453), total, z);
        in.out.at(b, h)[d] = narrow<T>(value * end.weight);
        if (d == 0 && in.partials.lse != nullptr) in.partials.lse[blockIdx.x] = end.lse;
    }
}

/// mass[slot] += the attention of the group's heads. One block of kCacheSplitSlots threads per work item, a thread per
/// slot. Where the following sequences have the same block at the same place, the thread of the first of them adds
/// theirs too, in their order.
template <class T, class C>
__global__ void cached_attention_mass_kernel(const __grid_constant__ CachedOperands<T, C> in, Accumulator<T>* mass,
                                             int64_t heads) {
    using A = Accumulator<T>;
    constexpr int64_t kRows = ops::kCacheBlockRows;
    int b, g, split;
    int64_t place;
    if (!in.item(blockIdx.x, b, g, split, place)) return;
    const int64_t i = threadIdx.x, at = int64_t{split} * ops::kCacheSplitSlots + i;
    if (at / kRows >= in.mass_blocks) return;
    const auto row_of = [&](int64_t sequence) {
        return CachedSlot(in.cache, in.table, sequence * in.table.groups + g, at / kRows * kRows).row;
    };
    const int64_t first = row_of(b);
    if (first < 0 || (b > 0 && row_of(b - 1) == first)) return;
    A total = mass[first + at % kRows];
    for (int64_t mate = b; mate < in.sequences && row_of(mate) == first; ++mate) {
        const int64_t from = in.place(mate * in.table.groups + g, split);
        if (from < 0) break;
        A sum = 0;
        for (int r = 0; r < in.heads_per_group; ++r) {
            const A logit = in.partials.logits[(from + r) * ops::kCacheSplitSlots + i];
            const A lse = in.partials.lse[mate * heads + int64_t{g} * in.heads_per_group + r];
            if (logit != kMinusInfinity<A>) sum += exp2_of(logit - lse * A(1.4426950408889634));
        }
        total += sum;
    }
    mass[first + at % kRows] = total;
}

}  // namespace ballast::cuda
