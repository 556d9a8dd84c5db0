// Shared by all attention kernels: the layout of rows of [B,T,H,D], the positions of keys, the visible range of a
// query, ALiBi's distances, spans and the sink logit z of each head. The device version of kernels/cpu/attention-inl.h.
//
// Key rows have two parts, [sinks | the rest], either of which may be empty. A part is a run of rows at consecutive
// positions. The visible range of query t in a part is one range of columns, and both its ends never decrease with t.
// Kernels need only this property to skip the tiles that are not visible to a tile of queries (or of keys).
//
// kByRow: queries have their own positions and first keys, in tensors (ops::AttentionMask). Kernels are compiled once
// with and once without them, so that calls without such tensors have no extra cost.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/ops.h"

namespace ballast::cuda {

/// A constant instead of a call, so that device code can use it.
template <class A>
inline constexpr A kMinusInfinity = -std::numeric_limits<A>::infinity();

/// Columns [begin, end) of a part, or queries.
struct Range {
    int64_t begin, end;
    __host__ __device__ bool empty() const { return begin >= end; }
    __device__ bool contains(int64_t i) const { return begin <= i && i < end; }
    __device__ bool meets(int64_t first, int64_t count) const { return begin < first + count && first < end; }
};

/// The largest distance in rows that is counted in 32 bits, with room for a tile.
inline constexpr int64_t kMaxRows = int64_t{1} << 30;

/// The mask and the bias around a tile, in 32 bits: queries and columns are counted from one query and one column of a
/// part. Larger distances are clamped to kMaxRows.
struct TileRules {
    int begin, end;  // query n sees columns [begin + n, end + n)
    int furthest;    // the column of a query's own position is never beyond this one
    __device__ bool sees(int query, int column) const { return begin + query <= column && column < end + query; }
    /// Whether one of the queries sees one of the columns, and whether all see all. (The numbers must not be 0.)
    __device__ bool meets(int query, int queries, int column, int columns) const {
        return begin + query < column + columns && column < end + query + queries - 1;
    }
    __device__ bool holds(int query, int queries, int column, int columns) const {
        return begin + query + queries - 1 <= column && column + columns <= end + query;
    }
    /// j - i.
    __device__ float distance(int query, int column) const {
        return static_cast<float>(column - min(end - 1 + query, furthest));
    }
};

/// Key rows at consecutive positions: row first_row + c stands at position + c.
struct KeyPart {
    int64_t first_row, rows, position;
    bool sinks;  // always visible, with the sink query as query
};

/// The parts of AttentionParams that kernels read.
template <class A>
struct AttentionRules {
    KeyPart parts[2];  // [sinks | the rest]; sinks form a part only when mask, bias or query differ for them
    int64_t steps, query_start, sink_query_position;
    const int32_t* span_H;                            // null: no limit
    const int32_t *query_position_BT, *first_key_BT;  // null: query_start + t, and 0
    const A* alibi_slope_H;                           // null: no bias
    const A* learned_sink_logit_H;                    // null: fixed_sink_logit
    A fixed_sink_logit;

    AttentionRules(const AttentionInputs& in, const AttentionParams& params)
        : parts{},
          steps(in.q.dim(1)),
          query_start(params.mask.query_start),
          sink_query_position(params.sink_query_position),
          span_H(data_of<const int32_t>(params.mask.span_H)),
          query_position_BT(data_of<const int32_t>(params.mask.query_position_BT)),
          first_key_BT(data_of<const int32_t>(params.mask.first_key_BT)),
          alibi_slope_H(data_of<const A>(params.alibi_slope_H)),
          learned_sink_logit_H(has_learned_sink_logit(params.normaliser) ? data_of<const A>(params.sink_logit_H)
                                                                         : nullptr),
          fixed_sink_logit(learned_sink_logit_H ? A(0) : sink_logit_value<A>(params.normaliser, nullptr, 0)) {
        require(in.q.dim(1) < kMaxRows && in.k.dim(1) < kMaxRows, "attention over more than 2^30 queries or keys");
        require(!params.mask.is_by_row() || in.q.dim(0) * in.q.dim(1) < INT32_MAX, "a mask by row of too many rows");
        const AttentionMask& mask = params.mask;
        const int64_t keys = in.k.dim(1), sinks = std::min(mask.num_sink_positions, keys);
        const bool gap = keys > sinks && mask.key_start != mask.num_sink_positions;
        const int64_t last = query_position_BT != nullptr ? INT32_MAX : query_start + steps - 1;
        const bool bias_apart = alibi_slope_H != nullptr && sink_query_position < last;
        const bool limited = span_H != nullptr || first_key_BT != nullptr;
        if (sinks > 0 && (gap || bias_apart || limited || !in.sink_query.empty())) {
            parts[0] = {0, sinks, 0, true};
            parts[1] = {sinks, keys - sinks, mask.key_start, false};
        } else {
            parts[0] = {0, 0, 0, true};
            parts[1] = {0, keys, sinks > 0 ? 0 : mask.key_start, false};
        }
    }
};

/// The positions and first keys of one sequence's queries, in 32 bits, as in the tensors. Values shared by all queries
/// are read from the kernel's parameters each time, because registers are the scarcest resource of attention kernels.
template <class A>
struct QueryRows {
    const AttentionRules<A>* rules;
    int base;  // the sequence's first row in the tensors

    __device__ __forceinline__ int position(int t) const {
        return rules->query_position_BT ? rules->query_position_BT[base + t] : static_cast<int>(rules->query_start) + t;
    }
    /// The earliest position that query t, at position i, sees among the sinks or among the other keys. It never
    /// decreases with t; so padding behind a sequence, which sees no sink either, has ranges that begin behind all
    /// others.
    __device__ __forceinline__ int first(int t, int i, int span, bool sinks) const {
        const int first = rules->first_key_BT ? rules->first_key_BT[base + t] : 0;
        if (sinks) return 0 <= i && i < first ? INT32_MAX : 0;
        return span < 0 ? first : max(first, i - span);
    }
};

/// TileRules of queries with their own positions, read on demand: for tiles that are not completely visible.
template <class A>
struct RowTileRules {
    QueryRows<A> rows;
    int t, zero;  // the query to count from, and the position of column 0
    int span;
    bool sinks;

    struct Sight {
        int first, position;  // a query sees positions [first, position]
    };
    /// Rows of the tile after the last query are treated as the last query.
    __device__ __forceinline__ int row(int query) const {
        return min(t + query, static_cast<int>(rows.rules->steps) - 1);
    }
    __device__ __forceinline__ Sight of(int query) const {
        const int n = row(query), i = rows.position(n);
        return {rows.first(n, i, span, sinks), i};
    }
    __device__ __forceinline__ bool sees(int query, int column) const {
        const Sight sight = of(query);
        return sight.first <= zero + column && zero + column <= sight.position;
    }
    __device__ __forceinline__ bool meets(int query, int queries, int column, int columns) const {
        return of(query).first < zero + column + columns && zero + column <= of(query + queries - 1).position;
    }
    __device__ __forceinline__ bool holds(int query, int queries, int column, int columns) const {
        return of(query + queries - 1).first <= zero + column && zero + column + columns - 1 <= of(query).position;
    }
    __device__ __forceinline__ float distance(int query, int column) const {
        int i = rows.position(row(query));
        if (sinks && rows.rules->sink_query_position < i) i = static_cast<int>(rows.rules->sink_query_position);
        return static_cast<float>(zero + column - i);
    }
};

/// The mask, bias and normaliser of one sequence's head.
template <class A, bool kByRow>
struct HeadRules {
    using Tile = std::conditional_t<kByRow, RowTileRules<A>, TileRules>;

    int64_t steps, query_start, sink_query_position, span;  // span < 0: no limit
    QueryRows<A> rows;                                      // where kByRow
    A alibi_slope, sink_logit;
    bool has_alibi;

    __device__ HeadRules(const AttentionRules<A>& rules, int64_t batch, int64_t head)
        : steps(rules.steps),
          query_start(rules.query_start),
          sink_query_position(rules.sink_query_position),
          span(rules.span_H ? rules.span_H[head] : -1),
          rows{&rules, static_cast<int>(batch * steps)},
          alibi_slope(rules.alibi_slope_H ? rules.alibi_slope_H[head] : A(0)),
          sink_logit(rules.learned_sink_logit_H ? rules.learned_sink_logit_H[head] : rules.fixed_sink_logit),
          has_alibi(rules.alibi_slope_H != nullptr) {}

    __device__ static int64_t clamp(int64_t x, int64_t end) { return x < 0 ? 0 : x < end ? x : end; }

    /// The position of query t.
    __device__ int64_t position(int64_t t) const {
        if constexpr (kByRow)
            return rows.position(static_cast<int>(min(t, steps - 1)));
        else
            return query_start + t;
    }

    /// The columns of `part` that query t sees.
    __device__ Range visible(const KeyPart& part, int64_t t) const {
        if constexpr (kByRow) {
            const int n = static_cast<int>(t), i = rows.position(n);
            const int64_t first = rows.first(n, i, static_cast<int>(span), part.sinks);
            return {clamp(first - part.position, part.rows), clamp(int64_t{i} + 1 - part.position, part.rows)};
        } else {
            const int64_t i = query_start + t;
            const int64_t begin = part.sinks || span < 0 ? 0 : i - span - part.position;
            return {clamp(begin, part.rows), clamp(i + 1 - part.position, part.rows)};
        }
    }
    /// The range of columns of `part` that queries [t, t + count) see, from the first to the last; empty for count <=
    /// 0.
    __device__ Range visible(const KeyPart& part, int64_t t, int64_t count) const {
        if (count <= 0) return {0, 0};
        return {visible(part, t).begin, visible(part, t + count - 1).end};
    }
    /// The range of queries that see columns [c, c + count) of `part`, from the first to the last; empty for count <=
    /// 0.
    __device__ Range seeing(const KeyPart& part, int64_t c, int64_t count) const {
        if (count <= 0) return {0, 0};
        if constexpr (kByRow) {
            return {first_query([&](int64_t t) { return visible(part, t).end > c; }),
                    first_query([&](int64_t t) { return visible(part, t).begin >= c + count; })};
        } else {
            const int64_t first = part.position + c - query_start;
            const int64_t end = part.sinks || span < 0 ? steps : part.position + c + count + span - query_start;
            return {clamp(first, steps), clamp(end, steps)};
        }
    }
    /// The first query for which reached() is true; it is true for all later ones.
    template <class Reached>
    __device__ int64_t first_query(const Reached& reached) const {
        int64_t low = 0, high = steps;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (reached(middle))
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
    /// The rules of `part`, counted from query t and column c.
    __device__ Tile from(const KeyPart& part, int64_t t, int64_t c) const {
        if constexpr (kByRow) {
            return {rows, static_cast<int>(t), static_cast<int>(part.position + c), static_cast<int>(span), part.sinks};
        } else {
            const auto near = [](int64_t x) { return static_cast<int>(x < -kMaxRows ? -kMaxRows : min(x, kMaxRows)); };
            const int64_t zero = part.position + c, i = query_start + t - zero;
            return {near(part.sinks || span < 0 ? -kMaxRows : i - span), near(i + 1),
                    near(part.sinks ? sink_query_position - zero : kMaxRows)};
        }
    }

    /// The distance j - i from query t to column c of `part`; for sinks i is min(i, sink_query_position).
    __device__ A distance(const KeyPart& part, int64_t t, int64_t c) const {
        const int64_t i = position(t), stands = part.sinks && sink_query_position < i ? sink_query_position : i;
        return static_cast<A>(part.position + c - stands);
    }
    /// The bias of query t's logit for column c of `part`.
    __device__ A bias(const KeyPart& part, int64_t t, int64_t c) const {
        return has_alibi ? alibi_slope * distance(part, t, c) : A(0);
    }
};

/// The result of a row of the forward pass: the sums times `weight` are its output.
template <class A>
struct RowEnd {
    A weight, lse;
};

/// `sum` is that of exp(s - maximum) over the visible logits s. Adds the sink logit. A row that saw no key and has z =
/// -inf gets weight 0 and lse = z.
template <class A>
__device__ __forceinline__ RowEnd<A> end_of_row(A maximum, A sum, A sink_logit) {
    const A top = maximum < sink_logit ? sink_logit : maximum;
    if (sum == 0 && top == kMinusInfinity<A>) return {A(0), sink_logit};
    const A scale = exp_of(maximum - top), norm = sum * scale + exp_of(sink_logit - top);
    return {scale / norm, top + log_of(norm)};
}

/// Rows of a strided [B,T,H,D] view with a contiguous last dim.
template <class T>
struct HeadRows {
    T* data;
    int64_t batch_stride, row_stride, head_stride;
    bool packed;  // four neighbours can be moved by one instruction, from any multiple of four
    bool wide;    // the same for 16 bytes, from any multiple of 16 bytes

    explicit HeadRows(const Tensor& x)
        : data(static_cast<T*>(x.data)),
          batch_stride(x.stride[0]),
          row_stride(x.stride[1]),
          head_stride(x.stride[2]),
          packed(reinterpret_cast<uintptr_t>(x.data) % (4 * sizeof(T)) == 0 &&
                 (batch_stride | row_stride | head_stride) % 4 == 0),
          wide(reinterpret_cast<uintptr_t>(x.data) % 16 == 0 &&
               (batch_stride | row_stride | head_stride) % kPackSize<T> == 0) {}
    __device__ T* at(int64_t b, int64_t t, int64_t h) const {
        return data + b * batch_stride + t * row_stride + h * head_stride;
    }
};

/// Blocks for tiles x heads x batches.
inline dim3 attention_grid(int64_t tiles, int64_t heads, int64_t batches) {
    dim3 grid = grid_of(tiles, 1);
    require(heads <= 65535 && batches <= 65535, "attention of more than 65535 heads or batches");
    grid.y = static_cast<unsigned>(heads);
    grid.z = static_cast<unsigned>(batches);
    return grid;
}

/// The operands of every attention kernel.
template <class T>
struct AttentionOperands {
    using A = Accumulator<T>;
    HeadRows<const T> q, k, v, sink_query;  // sink_query.data null: q
    int64_t group;                          // query heads a key-value head serves
    int dims;
    A scale;
    AttentionRules<A> rules;

    AttentionOperands(const AttentionInputs& in, const AttentionParams& params)
        : q(in.q),
          k(in.k),
          v(in.v),
          sink_query(in.sink_query),
          group(in.q.dim(2) / in.k.dim(2)),
          dims(static_cast<int>(in.q.dim(3))),
          scale(static_cast<A>(params.scale)),
          rules(in, params) {}
    __device__ const HeadRows<const T>& query_rows(const KeyPart& part) const {
        return part.sinks && sink_query.data != nullptr ? sink_query : q;
    }
};

/// The additional operands of the backward kernels.
template <class T>
struct AttentionSaved {
    HeadRows<const T> d_out;
    const Accumulator<T>*lse, *delta;
};

}  // namespace ballast::cuda
