// The influence of attention entries on the loss, summed over tiles, and the attention mass of keys, summed over
// queries. Both loop over the visible tiles of the score matrix as the forward pass does. No buffer of size T x S
// exists.
//   influence   a task is a block of queries of a head: s = scale q k^T + bias and g = dO V^T of six queries against a
//               tile of keys, then E = P' / (1 - P') (D - g), 1 - P' = -expm1(s - LSE'); tiles end where blocks end
//   key mass    a task is a tile of keys of a head, which walks over the queries that see it, in their order
// Sums of a tile are computed in double. Tasks share nothing, so bits do not depend on the number of threads.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_measures.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention_gradient-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Sums of one tile.
template <class A, class Add>
struct InfluenceSums {
    const Add& add;  // (key row, sum of |E|, sum of E)
    double absolute = 0, signed_sum = 0;

    HWY_INLINE void row(const GradientRow<A>& of) {
        using Sum = LaneSum<A>;
        const typename Sum::D d;
        constexpr A kLowest = sizeof(A) == sizeof(float) ? A(-87) : A(-708);  // there exp is 0
        const auto lowest = hn::Set(d, kLowest), epsilon = hn::Set(d, std::numeric_limits<A>::epsilon());
        const auto lse = hn::Set(d, of.lse), delta = hn::Set(d, of.alone ? A(0) : of.delta);
        Sum sum, sum_of_absolute;
        for (int64_t c = of.panels.begin; c < of.panels.end; c += Sum::kLanes)
            for (int64_t part_of = 0; part_of < Sum::kParts; ++part_of) {
                const int64_t at = c + part_of * Sum::kNative;
                const auto x = hn::Sub(hn::LoadU(d, of.s + at), lse);
                const auto rest = hn::Max(hn::Neg(hn::Expm1(d, hn::Max(x, lowest))), epsilon);
                const auto ratio = of.alone ? hn::Set(d, A(1)) : hn::Div(exp(d, x), rest);
                const auto e = hn::Mul(ratio, hn::Sub(delta, hn::LoadU(d, of.g + at)));
                const auto shown = hn::IfThenZeroElse(hn::Lt(x, lowest), e);  // a NaN stays
                sum.add(part_of, shown);
                sum_of_absolute.add(part_of, hn::Abs(shown));
            }
        signed_sum += static_cast<double>(sum.total());
        absolute += static_cast<double>(sum_of_absolute.total());
    }
    void end_of_tile(int64_t key) {
        add(key, absolute, signed_sum);
        absolute = signed_sum = 0;
    }
};

void attention_influence(Context& context, const Influence& influence, int64_t block, const Tensor& d_out,
                         const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                         const AttentionParams& params) {
    const KeyParts parts(in, params);
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const int64_t heads = in.q.dim(2), steps = in.q.dim(1);
        const Blocks rows{steps, block}, columns{in.k.dim(1), block};
        const auto sums_of = [](const Tensor& x) { return x.empty() ? nullptr : x.ptr<A>(); };
        A *absolute = sums_of(influence.absolute_BHIJ), *signed_sum = sums_of(influence.signed_sum_BHIJ);
        context.pool().parallel_for(in.q.dim(0) * heads * rows.size(), [&](int64_t task) HWY_ATTR {
            const int64_t bh = task / rows.size(), end = rows.end(task % rows.size());
            const auto add = [&](int64_t key, double absolute_effect, double signed_effect) {
                const int64_t at = task * columns.size() + key / block;
                if (absolute) absolute[at] += static_cast<A>(absolute_effect);
                if (signed_sum) signed_sum[at] += static_cast<A>(signed_effect);
            };
            InfluenceSums<A, decltype(add)> sums{add};
            GradientTile<T> tile(in, params, parts, bh / heads, bh % heads);
            for (int64_t t = rows.begin(task % rows.size()); t < end; t += kQueries)
                tile.run(t, std::min(t + kQueries, end), d_out, out, lse.ptr<A>() + bh * steps + t, block, sums);
        });
    });
}

/// Keys [columns) of a part, for one head.
template <class T>
class KeyMassTile {
  public:
    using A = Accumulator<T>;

    KeyMassTile(const AttentionInputs& in, const AttentionParams& params, const KeyPart& part, Range columns, int64_t b,
                int64_t h)
        : in_(in),
          part_(part),
          columns_(columns),
          rules_(params, b, h),
          scale_(static_cast<A>(params.scale)),
          b_(b),
          h_(h),
          dims_(in.q.dim(3)),
          stride_(tile_stride<A>(dims_)),
          memory_(bytes(stride_)),
          q_(memory_.template take<A>(kMicroRows * stride_)),
          k_(memory_.template take<A>(kKeys * stride_)),
          s_(memory_.template take<A>(kMicroRows * kKeys)),
          sum_(memory_.template take<A>(kKeys)) {
        const int64_t count = columns.end - columns.begin;
        const T* k = head_row<const T>(in.k, b, part.first_row + columns.begin, h / (in.q.dim(2) / in.k.dim(2)));
        transpose_rows(k_, kKeys, k, in.k.stride[1], count, dims_, round_up(count, kRunColumns<A>));
        std::fill_n(sum_, kKeys, A(0));
    }

    void run(A* mass, const A* lse) {
        const Range queries = rules_.seeing(part_, columns_, in_.q.dim(1));
        for (int64_t t = queries.begin; t < queries.end; t += kMicroRows)
            add_queries(t, std::min(kMicroRows, queries.end - t), lse);
        for (int64_t c = 0; c < columns_.end - columns_.begin; ++c)
            mass[part_.first_row + columns_.begin + c] += sum_[c];
    }

  private:
    static size_t bytes(int64_t stride) {
        return TileMemory::padded(static_cast<size_t>(kMicroRows * stride) * sizeof(A)) +
               TileMemory::padded(static_cast<size_t>(kKeys * stride) * sizeof(A)) +
               TileMemory::padded(static_cast<size_t>(kMicroRows * kKeys) * sizeof(A)) +
               TileMemory::padded(static_cast<size_t>(kKeys) * sizeof(A));
    }

    void add_queries(int64_t t, int64_t rows, const A* lse) {
        const Tensor& query = part_.sinks && !in_.sink_query.empty() ? in_.sink_query : in_.q;
        const Range panels = whole_runs<A>({0, columns_.end - columns_.begin});
        copy_rows(q_, stride_, head_row<const T>(query, b_, t, h_), query.stride[1], rows, dims_, dims_, scale_);
        tile_products(s_, q_, stride_, rows, k_, panels, dims_);
        const hn::ScalableTag<A> d;
        for (int64_t r = 0; r < rows; ++r) {
            const Range seen = within(columns_, rules_.visible(part_, t + r));
            if (seen.empty()) continue;
            A* s = s_ + r * kKeys;
            bias_and_mask(s, panels, seen, rules_,
                          part_.position + columns_.begin - rules_.bias_position(part_, t + r));
            const auto shift = hn::Set(d, lse[t + r]);
            for (int64_t c = panels.begin; c < panels.end; c += static_cast<int64_t>(hn::Lanes(d)))
                hn::StoreU(hn::Add(hn::LoadU(d, sum_ + c), exp(d, hn::Sub(hn::LoadU(d, s + c), shift))), d, sum_ + c);
        }
    }

    const AttentionInputs& in_;
    const KeyPart& part_;
    const Range columns_;
    const HeadRules rules_;
    const A scale_;
    const int64_t b_, h_, dims_, stride_;
    TileMemory memory_;
    A *q_, *k_, *s_, *sum_;
};

void attention_key_mass(Context& context, const Tensor& mass, const Tensor& lse, const AttentionInputs& in,
                        const AttentionParams& params) {
    const KeyParts parts(in, params);
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const int64_t heads = in.q.dim(2), steps = in.q.dim(1), keys = in.k.dim(1);
        for (const KeyPart& part : parts) {
            const Blocks tiles{part.rows, kKeys};
            context.pool().parallel_for(in.q.dim(0) * heads * tiles.size(), [&](int64_t task) HWY_ATTR {
                const int64_t bh = task / tiles.size(), n = task % tiles.size();
                KeyMassTile<T> tile(in, params, part, {tiles.begin(n), tiles.end(n)}, bh / heads, bh % heads);
                tile.run(mass.ptr<A>() + bh * keys, lse.ptr<A>() + bh * steps);
            });
        }
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_influence);
HWY_EXPORT(attention_key_mass);

void attention_influence(Context& context, const Influence& influence, int64_t block, const Tensor& d_out,
                         const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                         const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_influence)(context, influence, block, d_out, out, lse, in, params);
}

void attention_key_mass(Context& context, const Tensor& mass, const Tensor& lse, const AttentionInputs& in,
                        const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_key_mass)(context, mass, lse, in, params);
}

}  // namespace ballast::cpu
#endif
