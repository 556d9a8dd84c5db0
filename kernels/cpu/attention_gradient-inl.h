// Attention scores and the loss gradient of each score, tile by tile, for measurements (compiled once for every
// target). A tile is up to kQueries queries of one head against up to kKeys keys. For six queries at a time it computes
// the logits s = scale q k^T + bias and g = dO V^T, and passes them on row by row. No buffer of size T x S exists.

#include <hwy/highway.h>

#include "kernels/cpu/attention-inl.h"

#if defined(BALLAST_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_
#undef BALLAST_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_
#else
#define BALLAST_KERNELS_CPU_ATTENTION_GRADIENT_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

inline constexpr int64_t kKeys = 64, kQueries = 10 * kMicroRows;

/// Products of up to kMicroRows query rows with the keys (or values) of a tile, kept as [D, kKeys].
template <class A>
HWY_INLINE void tile_products(A* to, const A* rows, int64_t stride, int64_t count, const A* tile, Range panels,
                              int64_t dims) {
    multiply_rows<A>(count, panels.end - panels.begin, dims, {rows, stride, 1},
                     {tile + panels.begin, kKeys, kMicroColumns<A>}, to + panels.begin, kKeys, false);
}

/// One query's row of a tile of keys. Column 0 is the tile's first key; s is -inf outside of `seen`.
template <class A>
struct GradientRow {
    int64_t query, key_position;  // the query's index; the position of the tile's first key
    Range seen, panels;           // `panels`: whole runs of lanes around `seen`
    A *s, *g;                     // [kKeys]; may be overwritten
    A lse, delta;                 // D = dO . O
    bool alone;                   // one visible key and no sink logit: without that key there is nothing to renormalise
};

/// Up to kQueries queries [t0, t1) of one head.
template <class T>
class GradientTile {
  public:
    using A = Accumulator<T>;

    GradientTile(const AttentionInputs& in, const AttentionParams& params, const KeyParts& parts, int64_t b, int64_t h)
        : in_(in),
          rules_(params, b, h),
          parts_(parts),
          scale_(static_cast<A>(params.scale)),
          has_sink_logit_(sink_logit_of<A>(params, h) != -std::numeric_limits<A>::infinity()),
          b_(b),
          h_(h),
          g_(h / (in.q.dim(2) / in.k.dim(2))),
          dims_(in.q.dim(3)),
          stride_(tile_stride<A>(dims_)),
          memory_(bytes(stride_)),
          q_(memory_.template take<A>(kQueries * stride_)),
          d_o_(memory_.template take<A>(kQueries * stride_)),
          k_(memory_.template take<A>(kKeys * stride_)),
          v_(memory_.template take<A>(kKeys * stride_)),
          s_(memory_.template take<A>(kMicroRows * kKeys)),
          grad_(memory_.template take<A>(kMicroRows * kKeys)) {}

    const HeadRules& rules() const { return rules_; }

    /// Calls visit.row(GradientRow) for every query's row of every tile in which it sees a key, and
    /// visit.end_of_tile(key row) after each tile. A tile ends at the end of a block of `block` key rows.
    template <class Visitor>
    void run(int64_t t0, int64_t t1, const Tensor& d_out, const Tensor& out, const A* lse, int64_t block,
             Visitor& visit) {
        t0_ = t0;
        queries_ = t1 - t0;
        lse_ = lse;
        read_queries(d_out, out);
        for (const KeyPart& part : parts_) {
            const Range first = rules_.visible(part, t0), last = rules_.visible(part, t1 - 1);
            if (first.begin >= last.end) continue;
            const Tensor& query = part.sinks && !in_.sink_query.empty() ? in_.sink_query : in_.q;
            copy_rows(q_, stride_, head_row<const T>(query, b_, t0, h_), query.stride[1], queries_, dims_, dims_,
                      scale_);
            for (int64_t c = first.begin, end; c < last.end; c = end) {
                const int64_t row = part.first_row + c;
                end = std::min({c + kKeys, last.end, c + block - row % block});
                visit_tile(part, {c, end}, visit);
                visit.end_of_tile(row);
            }
        }
    }

  private:
    static size_t bytes(int64_t stride) {
        return 2 * TileMemory::padded(static_cast<size_t>(kQueries * stride) * sizeof(A)) +
               2 * TileMemory::padded(static_cast<size_t>(kKeys * stride) * sizeof(A)) +
               2 * TileMemory::padded(static_cast<size_t>(kMicroRows * kKeys) * sizeof(A));
    }

    void read_queries(const Tensor& d_out, const Tensor& out) {
        const hn::ScalableTag<A> d;
        copy_rows(d_o_, stride_, head_row<const T>(d_out, b_, t0_, h_), d_out.stride[1], queries_, dims_, dims_);
        for (int64_t r = 0; r < queries_; ++r) {
            const T* o = head_row<const T>(out, b_, t0_ + r, h_);
            delta_[r] = reduce_sum<A>(dims_, [&](int64_t i, auto lanes) HWY_ATTR {
                return hn::Mul(load(d, d_o_ + r * stride_ + i, lanes), load(d, o + i, lanes));
            });
            int64_t keys = 0;
            for (const KeyPart& part : parts_) {
                const Range seen = rules_.visible(part, t0_ + r);
                keys += std::max<int64_t>(0, seen.end - seen.begin);
            }
            alone_[r] = keys == 1 && !has_sink_logit_;
        }
    }

    template <class Visitor>
    void visit_tile(const KeyPart& part, Range columns, Visitor& visit) {
        const int64_t count = columns.end - columns.begin, row = part.first_row + columns.begin;
        const int64_t padded = round_up(count, kRunColumns<A>);
        transpose_rows(k_, kKeys, head_row<const T>(in_.k, b_, row, g_), in_.k.stride[1], count, dims_, padded);
        transpose_rows(v_, kKeys, head_row<const T>(in_.v, b_, row, g_), in_.v.stride[1], count, dims_, padded);
        for (int64_t r0 = 0; r0 < queries_; r0 += kMicroRows) {
            const int64_t rows = std::min(kMicroRows, queries_ - r0);
            const Range seen{within(columns, rules_.visible(part, t0_ + r0)).begin,
                             within(columns, rules_.visible(part, t0_ + r0 + rows - 1)).end};
            if (seen.empty()) continue;
            const Range panels = whole_runs<A>(seen);
            tile_products(s_, q_ + r0 * stride_, stride_, rows, k_, panels, dims_);
            tile_products(grad_, d_o_ + r0 * stride_, stride_, rows, v_, panels, dims_);
            for (int64_t r = 0; r < rows; ++r) visit_row(part, columns, panels, r0 + r, r, visit);
        }
    }

    template <class Visitor>
    void visit_row(const KeyPart& part, Range columns, Range panels, int64_t r, int64_t panel_row, Visitor& visit) {
        const int64_t t = t0_ + r, key = part.position + columns.begin;
        const Range seen = within(columns, rules_.visible(part, t));
        if (seen.empty()) return;
        A* s = s_ + panel_row * kKeys;
        bias_and_mask(s, panels, seen, rules_, key - rules_.bias_position(part, t));
        visit.row(GradientRow<A>{t, key, seen, panels, s, grad_ + panel_row * kKeys, lse_[r], delta_[r], alone_[r]});
    }

    const AttentionInputs& in_;
    const HeadRules rules_;
    const KeyParts& parts_;
    const A scale_;
    const bool has_sink_logit_;
    const int64_t b_, h_, g_, dims_, stride_;
    int64_t t0_ = 0, queries_ = 0;
    const A* lse_ = nullptr;
    TileMemory memory_;
    A *q_, *d_o_, *k_, *v_, *s_, *grad_;
    A delta_[kQueries];
    bool alone_[kQueries];
};

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
