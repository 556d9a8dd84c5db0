// Shared by the attention kernels: the positions of keys, the visible range of a query, and the logits of a few query
// rows against a tile of keys (compiled once for every target).

#include <hwy/highway.h>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/tile-inl.h"
#include "kernels/cpu/tile_memory.h"

#ifndef BALLAST_KERNELS_CPU_ATTENTION_SHAPES_H_
#define BALLAST_KERNELS_CPU_ATTENTION_SHAPES_H_
namespace ballast::cpu {

/// A run of key rows at consecutive positions: row first_row + c stands at position + c.
struct KeyPart {
    int64_t first_row, rows, position;
    bool sinks;  // always visible, with the sink query as query
};

/// Columns [begin, end) of a part or tile.
struct Range {
    int64_t begin, end;
    bool empty() const { return begin >= end; }
};

/// The mask, bias and normaliser of one sequence's head.
struct HeadRules {
    const int32_t *positions, *first_keys;           // of every query; null: position query_start + t, first key 0
    int64_t query_start, span, sink_query_position;  // span < 0: no limit
    bool has_alibi;
    double alibi_slope;

    HeadRules(const AttentionParams& params, int64_t batch, int64_t head)
        : positions(row_of(params.mask.query_position_BT, batch)),
          first_keys(row_of(params.mask.first_key_BT, batch)),
          query_start(params.mask.query_start),
          span(params.mask.span_H.empty() ? -1 : params.mask.span_H.ptr<int32_t>()[head]),
          sink_query_position(params.sink_query_position),
          has_alibi(!params.alibi_slope_H.empty()),
          alibi_slope(!has_alibi                                      ? 0
                      : params.alibi_slope_H.dtype == Dtype::f64 ? params.alibi_slope_H.ptr<double>()[head]
                                                                 : params.alibi_slope_H.ptr<float>()[head]) {}

    /// The position of query t.
    int64_t position(int64_t t) const { return positions ? positions[t] : query_start + t; }

    /// The columns of `part` that query t sees. Both ends never decrease with t. Therefore padding behind a sequence,
    /// which sees no sink either, has a range that begins behind them.
    Range visible(const KeyPart& part, int64_t t) const {
        const int64_t i = position(t), first = first_keys ? first_keys[t] : 0;
        const int64_t begin = part.sinks ? (0 <= i && i < first ? part.rows : 0)
                                         : (span < 0 ? first : std::max(first, i - span)) - part.position;
        return {std::clamp<int64_t>(begin, 0, part.rows), std::clamp<int64_t>(i + 1 - part.position, 0, part.rows)};
    }

    /// The range from the first to the last query of `steps` that sees a column of `columns` of `part`.
    Range seeing(const KeyPart& part, Range columns, int64_t steps) const {
        if (positions || first_keys)
            return {first_query(steps, [&](int64_t t) { return visible(part, t).end > columns.begin; }),
                    first_query(steps, [&](int64_t t) { return visible(part, t).begin >= columns.end; })};
        const int64_t first = part.position + columns.begin - query_start;
        const int64_t end = part.sinks || span < 0 ? steps : part.position + columns.end + span - query_start;
        return {std::clamp<int64_t>(first, 0, steps), std::clamp<int64_t>(end, 0, steps)};
    }

    /// The position of query t for the ALiBi distance to keys of `part`.
    int64_t bias_position(const KeyPart& part, int64_t t) const {
        const int64_t i = position(t);
        return part.sinks ? std::min(i, sink_query_position) : i;
    }

  private:
    static const int32_t* row_of(const Tensor& rows_BT, int64_t batch) {
        return rows_BT.empty() ? nullptr : rows_BT.ptr<int32_t>() + batch * rows_BT.dim(1);
    }
    /// The first query of `steps` for which reached() is true; it is true for all later ones.
    template <class Reached>
    static int64_t first_query(int64_t steps, const Reached& reached) {
        int64_t low = 0, high = steps;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (reached(middle))
                high = middle;
            else
                low = middle + 1;
        }
        return low;
    }
};

/// Requires that the rows of a mask do not decrease within a sequence.
inline void require_sorted(const Tensor& rows_BT) {
    if (rows_BT.empty()) return;
    const int32_t* rows = rows_BT.ptr<int32_t>();
    const int64_t steps = rows_BT.dim(1);
    for (int64_t b = 0; b < rows_BT.dim(0); ++b)
        require(std::is_sorted(rows + b * steps, rows + (b + 1) * steps),
                "a mask's query positions and first keys must not decrease within a sequence");
}

/// The key rows as one or two parts. Sinks form their own part only when the mask, the bias or the query differs for
/// them.
class KeyParts {
  public:
    KeyParts(const AttentionInputs& in, const AttentionParams& params) {
        const AttentionMask& mask = params.mask;
        require_sorted(mask.query_position_BT);
        require_sorted(mask.first_key_BT);
        const int64_t keys = in.k.dim(1), sinks = std::min(mask.num_sink_positions, keys);
        const bool gap = keys > sinks && mask.key_start != mask.num_sink_positions;
        const int64_t last = mask.query_position_BT.empty() ? mask.query_start + in.q.dim(1) - 1 : INT32_MAX;
        const bool bias_apart = !params.alibi_slope_H.empty() && params.sink_query_position < last;
        const bool limited = !mask.span_H.empty() || !mask.first_key_BT.empty();
        if (sinks > 0 && (gap || bias_apart || limited || !in.sink_query.empty())) {
            add({0, sinks, 0, true});
            add({sinks, keys - sinks, mask.key_start, false});
        } else {
            add({0, keys, sinks > 0 ? 0 : mask.key_start, false});
        }
    }
    const KeyPart* begin() const { return parts_; }
    const KeyPart* end() const { return parts_ + count_; }

  private:
    void add(const KeyPart& part) {
        if (part.rows > 0) parts_[count_++] = part;
    }
    KeyPart parts_[2]{};
    int count_ = 0;
};

/// Row (b, t) of head h of x [B,T,H,D].
template <class T> T* head_row(const Tensor& x, int64_t b, int64_t t, int64_t h) {
    return static_cast<T*>(x.data) + b * x.stride[0] + t * x.stride[1] + h * x.stride[2];
}

/// The row stride of tiles with D columns: whole micro-kernel panels on every target (128 bytes).
template <class A> constexpr int64_t tile_stride(int64_t dims) { return round_up(dims, 128 / static_cast<int64_t>(sizeof(A))); }

/// z_h of a head.
template <class A> A sink_logit_of(const AttentionParams& params, int64_t head) {
    const A* learned = has_learned_sink_logit(params.normaliser) ? params.sink_logit_H.ptr<A>() : nullptr;
    return sink_logit_value<A>(params.normaliser, learned, static_cast<int>(head));
}

}  // namespace ballast::cpu
#endif

#if defined(BALLAST_KERNELS_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_ATTENTION_INL_H_
#undef BALLAST_KERNELS_CPU_ATTENTION_INL_H_
#else
#define BALLAST_KERNELS_CPU_ATTENTION_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Finishes a row of logits over `panels` of a tile: adds ALiBi's -slope (i - j), and writes -inf outside `seen` (the
/// visible columns of the tile). `distance` is j - i of column 0, where i is HeadRules::bias_position().
template <class A>
HWY_INLINE void bias_and_mask(A* logits, Range panels, Range seen, const HeadRules& rules, int64_t distance) {
    if (rules.has_alibi) {
        const hn::ScalableTag<A> d;
        const auto slope = hn::Set(d, static_cast<A>(rules.alibi_slope)), first = hn::Set(d, static_cast<A>(distance));
        for (int64_t c = panels.begin; c < panels.end; c += static_cast<int64_t>(hn::Lanes(d))) {
            const auto steps = hn::Add(first, hn::Iota(d, static_cast<A>(c)));
            hn::StoreU(hn::MulAdd(slope, steps, hn::LoadU(d, logits + c)), d, logits + c);
        }
    }
    std::fill(logits + panels.begin, logits + seen.begin, -std::numeric_limits<A>::infinity());
    std::fill(logits + seen.end, logits + panels.end, -std::numeric_limits<A>::infinity());
}

/// Columns are handled in runs of this many: whole panels of the micro-kernel and whole virtual lanes of the sums.
template <class A> inline constexpr int64_t kRunColumns = std::max(kMicroColumns<A>, LaneSum<A>::kLanes);

/// [begin, end) rounded outwards to whole runs.
template <class A> HWY_INLINE Range whole_runs(Range columns) {
    return {columns.begin / kRunColumns<A> * kRunColumns<A>, round_up(columns.end, kRunColumns<A>)};
}

/// p = exp(logit - m) for a row of logits (whole runs, at least one of them visible), in the dtype of p; p may share
/// the logits' memory. Updates the running maximum m and the running sum l. Returns exp(m_old - m), the factor for the
/// partial sums of earlier tiles.
template <class A, class P>
HWY_INLINE A online_softmax(P* p, const A* logits, Range columns, A& running_maximum, A& running_sum) {
    using Sum = LaneSum<A>;
    const typename Sum::D d;
    auto maxima = hn::LoadU(d, logits + columns.begin);
    for (int64_t c = columns.begin; c < columns.end; c += Sum::kLanes) {
        auto run = hn::LoadU(d, logits + c);
        for (int64_t part = 1; part < Sum::kParts; ++part) run = hn::Max(run, hn::LoadU(d, logits + c + part * Sum::kNative));
        maxima = hn::Max(maxima, run);
    }
    const A maximum = std::max(running_maximum, hn::GetLane(hn::MaxOfLanes(d, maxima)));
    const auto shift = hn::Set(d, maximum);
    Sum sum;
    for (int64_t c = columns.begin; c < columns.end; c += Sum::kLanes)
        for (int64_t part = 0; part < Sum::kParts; ++part) {
            const int64_t at = c + part * Sum::kNative;
            const auto e = exp(d, hn::Sub(hn::LoadU(d, logits + at), shift));
            store(e, d, p + at, All{});
            sum.add(part, e);
        }
    const A decay = maximum == running_maximum ? A(1) : exp_of(running_maximum - maximum);
    running_maximum = maximum;
    running_sum = running_sum * decay + sum.total();
    return decay;
}

/// Finishes a row: out = o exp(m - LSE'), and LSE' = logaddexp(m + log l, z). A row that saw no key and has z = -inf is
/// 0.
template <class A, class T>
HWY_INLINE void finish_row(T* out, A& lse, const A* o, int64_t dims, A row_maximum, A row_sum, A z) {
    const hn::ScalableTag<A> d;
    const A maximum = std::max(row_maximum, z);
    A weight = 0;
    if (row_sum == 0 && maximum == -std::numeric_limits<A>::infinity()) {
        lse = z;
    } else {
        const A scale = exp_of(row_maximum - maximum), total = row_sum * scale + exp_of(z - maximum);
        lse = maximum + log_of(total);
        weight = scale / total;
    }
    const auto factor = hn::Set(d, weight);
    for_vectors(d, dims, [&](int64_t i, auto lanes) HWY_ATTR {
        store(hn::Mul(load(d, o + i, lanes), factor), d, out + i, lanes);
    });
}

/// `columns` of a part, relative to the tile that covers the columns `tile` of the part.
HWY_INLINE Range within(Range tile, Range columns) {
    const int64_t width = tile.end - tile.begin;
    return {std::clamp<int64_t>(columns.begin - tile.begin, 0, width), std::clamp<int64_t>(columns.end - tile.begin, 0, width)};
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
