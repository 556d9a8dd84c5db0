// The effect of a shorter span on the loss (kernels/ops.h, attention_span_effect). A task is a tile of queries of a
// head. P' and W = P' (D - g) of every key are added to bins of its query, by distance. Then E_m = (W of the bins from
// m on) / (P' of all that stays), and the tile's queries are added in order, in double. At the end tiles are added in
// order, so bits do not depend on the number of threads.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_span_effect.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention_gradient-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// Sums of the queries of a tile by distance: bin m has keys at distances [m block, (m + 1) block), bin M all beyond.
template <class A>
class DistanceBins {
  public:
    DistanceBins(const HeadRules& rules, int64_t first_query, int64_t spans, int64_t block, int64_t sinks)
        : rules_(rules),
          first_(first_query),
          spans_(spans),
          block_(block),
          sinks_(sinks),
          mass_(static_cast<size_t>(kQueries * (spans + 1))),
          change_(mass_.size()),
          always_(kQueries) {}

    HWY_INLINE void row(const GradientRow<A>& of) {
        const hn::ScalableTag<A> d;
        const auto lse = hn::Set(d, of.lse), delta = hn::Set(d, of.delta);
        for (int64_t c = of.panels.begin; c < of.panels.end; c += static_cast<int64_t>(hn::Lanes(d))) {
            const auto p = exp(d, hn::Sub(hn::LoadU(d, of.s + c), lse));
            hn::StoreU(p, d, of.s + c);
            hn::StoreU(hn::Mul(p, hn::Sub(delta, hn::LoadU(d, of.g + c))), d, of.g + c);
        }
        const int64_t r = of.query - first_, position = rules_.position(of.query);
        double *mass = mass_.data() + r * (spans_ + 1), *change = change_.data() + r * (spans_ + 1);
        for (int64_t c = of.seen.begin; c < of.seen.end; ++c) {
            const int64_t key = of.key_position + c;
            if (key < sinks_) {
                always_[static_cast<size_t>(r)] += static_cast<double>(of.s[c]);
                continue;
            }
            const int64_t bin = std::min((position - key) / block_, spans_);
            mass[bin] += static_cast<double>(of.s[c]);
            change[bin] += static_cast<double>(of.g[c]);
        }
    }
    void end_of_tile(int64_t) {}

    /// effect[m - 1] += sum over queries of E_m, m = 1 … M. `logit_mass`: what the sink logit takes of each query.
    void add_to(double* effect, int64_t queries, const double* logit_mass) const {
        std::vector<double> kept(static_cast<size_t>(spans_ + 1));
        for (int64_t r = 0; r < queries; ++r) {
            const double *mass = mass_.data() + r * (spans_ + 1), *change = change_.data() + r * (spans_ + 1);
            kept[0] = always_[static_cast<size_t>(r)] + logit_mass[r];
            for (int64_t m = 1; m <= spans_; ++m)
                kept[static_cast<size_t>(m)] = kept[static_cast<size_t>(m - 1)] + mass[m - 1];
            double hidden = 0;
            for (int64_t m = spans_; m >= 1; --m) {
                hidden += change[m];
                effect[m - 1] +=
                    hidden / std::max<double>(kept[static_cast<size_t>(m)], std::numeric_limits<A>::epsilon());
            }
        }
    }

  private:
    const HeadRules& rules_;
    const int64_t first_, spans_, block_, sinks_;
    std::vector<double> mass_, change_, always_;  // [kQueries, spans + 1] twice, [kQueries]
};

void attention_span_effect(Context& context, const Tensor& effect, int64_t block, int64_t sinks, const Tensor& d_out,
                           const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                           const AttentionParams& params) {
    const KeyParts parts(in, params);
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const int64_t heads = in.q.dim(2), steps = in.q.dim(1), spans = effect.dim(2);
        const Blocks tiles{steps, kQueries};
        std::vector<double> tile_sums(static_cast<size_t>(in.q.dim(0) * heads * tiles.size() * spans));
        context.pool().parallel_for(in.q.dim(0) * heads * tiles.size(), [&](int64_t task) HWY_ATTR {
            const int64_t bh = task / tiles.size(), begin = tiles.begin(task % tiles.size()),
                          end = tiles.end(task % tiles.size());
            const A* tile_lse = lse.ptr<A>() + bh * steps + begin;
            GradientTile<T> tile(in, params, parts, bh / heads, bh % heads);
            DistanceBins<A> bins(tile.rules(), begin, spans, block, sinks);
            tile.run(begin, end, d_out, out, tile_lse, kKeys, bins);
            double logit_mass[kQueries];
            const A z = sink_logit_of<A>(params, bh % heads);
            for (int64_t r = 0; r < end - begin; ++r)  // a row that sees no key has the LSE' of z, -inf under softmax
                logit_mass[r] = z == -std::numeric_limits<A>::infinity() ? 0 : std::exp(static_cast<double>(z - tile_lse[r]));
            bins.add_to(tile_sums.data() + task * spans, end - begin, logit_mass);
        });
        A* to = effect.ptr<A>();
        for (int64_t bh = 0; bh < in.q.dim(0) * heads; ++bh)
            for (int64_t m = 0; m < spans; ++m) {
                double sum = 0;
                for (int64_t n = 0; n < tiles.size(); ++n)
                    sum += tile_sums[static_cast<size_t>((bh * tiles.size() + n) * spans + m)];
                to[bh * spans + m] += static_cast<A>(sum);
            }
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_span_effect);

void attention_span_effect(Context& context, const Tensor& effect, int64_t block, int64_t sinks, const Tensor& d_out,
                           const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                           const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_span_effect)(context, effect, block, sinks, d_out, out, lse, in, params);
}

}  // namespace ballast::cpu
#endif
