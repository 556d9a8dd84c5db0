// Attention, forward. For every (batch, head, tile of queries), over tiles of keys with the running maximum m and sum l
// of Milakov & Gimelshein 2018 (FlashAttention, Dao et al. 2022):
//   s = scale q k^T + bias;  m' = max(m, s);  p = exp(s - m');  o = o exp(m - m') + p v;  l = l exp(m - m') + sum p
// and at the end LSE' = logaddexp(m + log l, z), out = o exp(m - LSE'). Nothing is saved but out and lse.
// The micro-kernel takes six queries at a time, and each group reads only its visible range: the work follows the mask,
// not T × S. Tasks are divided by shape and share nothing, so bits do not depend on the number of threads.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_forward.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/attention_bf16.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Queries [t0, t1) of one head.
template <class T> class ForwardTile {
  public:
    using A = Accumulator<T>;
    using D = hn::ScalableTag<A>;

    static int64_t queries_per_tile(int64_t dims) { return dims <= 128 ? 126 : 66; }
    /// Keys of a tile, so that k and v together stay in the L1 and L2 caches.
    static int64_t keys_per_tile(int64_t dims) { return dims <= 64 ? 128 : 64; }

    ForwardTile(const AttentionInputs& in, const AttentionParams& params, int64_t b, int64_t h, int64_t t0)
        : in_(in),
          rules_(params, b, h),
          scale_(static_cast<A>(params.scale)),
          b_(b),
          h_(h),
          g_(h / (in.q.dim(2) / in.k.dim(2))),
          t0_(t0),
          dims_(in.q.dim(3)),
          queries_(std::min(queries_per_tile(dims_), in.q.dim(1) - t0)),
          keys_(keys_per_tile(dims_)),
          stride_(tile_stride<A>(dims_)),
          memory_(bytes(dims_)),
          q_(memory_.template take<A>(queries_per_tile(dims_) * stride_)),
          o_(memory_.template take<A>(queries_per_tile(dims_) * stride_)),
          k_(memory_.template take<A>(stride_ * keys_)),
          v_(memory_.template take<A>(keys_ * stride_)),
          p_(memory_.template take<A>(kMicroRows * keys_)),
          maximum_(memory_.template take<A>(queries_per_tile(dims_))),
          sum_(memory_.template take<A>(queries_per_tile(dims_))) {
        std::fill_n(o_, queries_ * stride_, A(0));
        std::fill_n(maximum_, queries_, -std::numeric_limits<A>::infinity());
        std::fill_n(sum_, queries_, A(0));
    }

    /// Takes in every key of `part` that some query of the tile sees.
    void add(const KeyPart& part) {
        const Range first = rules_.visible(part, t0_), last = rules_.visible(part, t0_ + queries_ - 1);
        if (first.begin >= last.end) return;
        const Tensor& query = part.sinks && !in_.sink_query.empty() ? in_.sink_query : in_.q;
        copy_rows(q_, stride_, head_row<const T>(query, b_, t0_, h_), query.stride[1], queries_, dims_, dims_, scale_);
        for (int64_t c = first.begin; c < last.end; c += keys_) add_keys(part, {c, std::min(c + keys_, last.end)});
    }

    /// out and lse of every query, the sink logit z included.
    void finish(const Tensor& out, const Tensor& lse, A z) const {
        A* lse_row = static_cast<A*>(lse.data) + (b_ * lse.dim(1) + h_) * lse.dim(2) + t0_;
        for (int64_t r = 0; r < queries_; ++r)
            finish_row(head_row<T>(out, b_, t0_ + r, h_), lse_row[r], o_ + r * stride_, dims_, maximum_[r], sum_[r], z);
    }

  private:
    static size_t bytes(int64_t dims) {
        const int64_t queries = queries_per_tile(dims), keys = keys_per_tile(dims), stride = tile_stride<A>(dims);
        const int64_t elements = 2 * queries * stride + 2 * keys * stride + kMicroRows * keys + 2 * queries;
        return static_cast<size_t>(elements) * sizeof(A) + 7 * 64;
    }

    void add_keys(const KeyPart& part, Range columns) {
        const int64_t count = columns.end - columns.begin, row = part.first_row + columns.begin;
        transpose_rows(k_, keys_, head_row<const T>(in_.k, b_, row, g_), in_.k.stride[1], count, dims_,
                       round_up(count, kRunColumns<A>));
        copy_rows(v_, stride_, head_row<const T>(in_.v, b_, row, g_), in_.v.stride[1], count, dims_,
                  round_up(dims_, kMicroColumns<A>));
        for (int64_t r = 0; r < queries_; r += kMicroRows) add_keys(part, columns, r, std::min(kMicroRows, queries_ - r));
    }

    /// Rows [row, row + rows) against the loaded keys.
    void add_keys(const KeyPart& part, Range columns, int64_t row, int64_t rows) {
        const Range seen{in_tile(part, columns, row).begin, in_tile(part, columns, row + rows - 1).end};
        if (seen.empty()) return;
        const Range panels = whole_runs<A>(seen);
        multiply_rows<A>(rows, panels.end - panels.begin, dims_, {q_ + row * stride_, stride_, 1},
                         {k_ + panels.begin, keys_, kMicroColumns<A>}, p_ + panels.begin, keys_, false);
        for (int64_t r = 0; r < rows; ++r) softmax_row(part, columns, panels, row + r, p_ + r * keys_);
        multiply_rows<A>(rows, dims_, seen.end - seen.begin, {p_ + seen.begin, keys_, 1},
                         {v_ + seen.begin * stride_, stride_, kMicroColumns<A>}, o_ + row * stride_, stride_, true);
    }

    /// What row r sees of the tile, in the tile's own columns.
    Range in_tile(const KeyPart& part, Range columns, int64_t r) const {
        return within(columns, rules_.visible(part, t0_ + r));
    }

    /// Turns the logits of row r into p and brings m, l and o up to date; p is 0 where the row sees nothing.
    HWY_INLINE void softmax_row(const KeyPart& part, Range columns, Range panels, int64_t r, A* p) {
        const Range seen = in_tile(part, columns, r);
        if (seen.empty()) {
            std::fill(p + panels.begin, p + panels.end, A(0));
            return;
        }
        bias_and_mask(p, panels, seen, rules_, part.position + columns.begin - rules_.bias_position(part, t0_ + r));
        const A decay = online_softmax(p, p, panels, maximum_[r], sum_[r]);
        if (decay != 1) scale_row(o_ + r * stride_, stride_, decay);
    }

    const AttentionInputs& in_;
    const HeadRules rules_;
    const A scale_;
    const int64_t b_, h_, g_, t0_, dims_, queries_, keys_, stride_;
    TileMemory memory_;
    A *q_, *o_, *k_, *v_, *p_, *maximum_, *sum_;
};

/// One query of one head, straight from the keys and values where they lie: for a few queries (decoding) packing tiles
/// would cost more than the products, and the time is that of reading k and v once.
template <class T> class DecodeRow {
  public:
    using A = Accumulator<T>;
    using D = hn::ScalableTag<A>;

    DecodeRow(const AttentionInputs& in, const AttentionParams& params, int64_t b, int64_t h, int64_t t)
        : in_(in),
          rules_(params, b, h),
          b_(b),
          h_(h),
          g_(h / (in.q.dim(2) / in.k.dim(2))),
          t_(t),
          dims_(in.q.dim(3)),
          scale_(static_cast<A>(params.scale)) {
        std::fill_n(o_, tile_stride<A>(dims_), A(0));
    }

    void add(const KeyPart& part) {
        const Range seen = rules_.visible(part, t_);
        if (seen.empty()) return;
        copy_rows(q_, dims_, head_row<const T>(part.sinks && !in_.sink_query.empty() ? in_.sink_query : in_.q, b_, t_, h_), dims_, 1,
                  dims_, dims_, scale_);
        for (int64_t c = seen.begin; c < seen.end; c += kKeys) add_keys(part, c, std::min(kKeys, seen.end - c));
    }

    void finish(const Tensor& out, const Tensor& lse, A z) const {
        A* lse_row = static_cast<A*>(lse.data) + (b_ * lse.dim(1) + h_) * lse.dim(2) + t_;
        finish_row(head_row<T>(out, b_, t_, h_), *lse_row, o_, dims_, maximum_, sum_, z);
    }

  private:
    static constexpr int64_t kKeys = 64, kMaxDims = 256;

    void add_keys(const KeyPart& part, int64_t first, int64_t count) {
        const D d;
        const T* k = head_row<const T>(in_.k, b_, part.first_row + first, g_);
        for (int64_t c = 0; c < count; ++c, k += in_.k.stride[1])
            p_[c] = reduce_sum<A>(dims_, [&](int64_t i, auto lanes) HWY_ATTR {
                return hn::Mul(load(d, q_ + i, lanes), load(d, k + i, lanes));
            });
        const Range whole = whole_runs<A>({0, count});
        bias_and_mask(p_, whole, {0, count}, rules_, part.position + first - rules_.bias_position(part, t_));
        const A decay = online_softmax(p_, p_, whole, maximum_, sum_);
        if (decay != 1) scale_row(o_, tile_stride<A>(dims_), decay);
        const T* v = head_row<const T>(in_.v, b_, part.first_row + first, g_);
        for (int64_t c = 0; c < count; ++c, v += in_.v.stride[1]) {
            const auto weight = hn::Set(d, p_[c]);
            for_vectors(d, dims_, [&](int64_t i, auto lanes) HWY_ATTR {
                store(hn::MulAdd(weight, load(d, v + i, lanes), load(d, o_ + i, lanes)), d, o_ + i, lanes);
            });
        }
    }

    const AttentionInputs& in_;
    const HeadRules rules_;
    const int64_t b_, h_, g_, t_, dims_;
    const A scale_;
    A maximum_ = -std::numeric_limits<A>::infinity(), sum_ = 0;
    alignas(64) A q_[kMaxDims];
    alignas(64) A o_[kMaxDims];
    alignas(64) A p_[kKeys];
};

template <class T>
void decode(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in, const AttentionParams& params,
            const KeyParts& parts) {
    const int64_t heads = in.q.dim(2), steps = in.q.dim(1);
    context.pool().parallel_for(in.q.dim(0) * heads * steps, [&](int64_t task) HWY_ATTR {
        const int64_t h = task / steps % heads;
        DecodeRow<T> row(in, params, task / steps / heads, h, task % steps);
        for (const KeyPart& part : parts) row.add(part);
        row.finish(out, lse, sink_logit_of<Accumulator<T>>(params, h));
    });
}

void attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    constexpr int64_t kFewQueries = 4;
    const KeyParts parts(in, params);
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        if (in.q.dim(1) <= kFewQueries) return decode<T>(context, out, lse, in, params, parts);
        using Tile = ForwardTile<T>;
        const int64_t heads = in.q.dim(2), step = Tile::queries_per_tile(in.q.dim(3)), tiles = ceil_div(in.q.dim(1), step);
        context.pool().parallel_for(in.q.dim(0) * heads * tiles, [&](int64_t task) HWY_ATTR {
            const int64_t h = task / tiles % heads;
            Tile tile(in, params, task / tiles / heads, h, task % tiles * step);
            for (const KeyPart& part : parts) tile.add(part);
            tile.finish(out, lse, sink_logit_of<Accumulator<T>>(params, h));
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_forward);

void attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    if (takes_bf16_attention(context, in)) return attention_forward_bf16(context, out, lse, in, params);
    HWY_DYNAMIC_DISPATCH(attention_forward)(context, out, lse, in, params);
}

}  // namespace ballast::cpu
#endif
