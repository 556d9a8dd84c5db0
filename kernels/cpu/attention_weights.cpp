// Attention's logits s = scale q k^T + bias and weights P' = exp(s - LSE') themselves, for measurements on short
// sequences.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_weights.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// visit(key row, logit) for every key that query (b, t) of head h sees.
template <class T, class Visit>
HWY_INLINE void for_logits(const AttentionInputs& in, const AttentionParams& params, const KeyParts& parts, int64_t b,
                           int64_t h, int64_t t, const Visit& visit) {
    using A = Accumulator<T>;
    const hn::ScalableTag<A> d;
    const int64_t dims = in.q.dim(3), g = h / (in.q.dim(2) / in.k.dim(2));
    const A scale = static_cast<A>(params.scale);
    const HeadRules rules(params, b, h);
    for (const KeyPart& part : parts) {
        const T* q = head_row<const T>(part.sinks && !in.sink_query.empty() ? in.sink_query : in.q, b, t, h);
        const Range seen = rules.visible(part, t);
        for (int64_t c = seen.begin; c < seen.end; ++c) {
            const T* k = head_row<const T>(in.k, b, part.first_row + c, g);
            const A product = reduce_sum<A>(dims, [&](int64_t i, auto lanes) HWY_ATTR {
                return hn::Mul(load(d, q + i, lanes), load(d, k + i, lanes));
            });
            const A distance = static_cast<A>(part.position + c - rules.bias_position(part, t));
            const A bias = rules.has_alibi ? static_cast<A>(rules.alibi_slope) * distance : A(0);
            visit(part.first_row + c, product * scale + bias);
        }
    }
}

/// Weights of rows with this lse; logits without one.
void attention_scores(Context& context, const Tensor& scores, const Tensor& lse, const AttentionInputs& in,
                      const AttentionParams& params) {
    const KeyParts parts(in, params);
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const int64_t heads = in.q.dim(2), steps = in.q.dim(1), keys = in.k.dim(1);
        const A* shift = lse.empty() ? nullptr : lse.ptr<A>();
        context.pool().parallel_for(in.q.dim(0) * heads * steps, [&](int64_t row) HWY_ATTR {
            A* to = scores.ptr<A>() + row * keys;
            std::fill_n(to, keys, shift ? A(0) : -std::numeric_limits<A>::infinity());
            for_logits<T>(in, params, parts, row / steps / heads, row / steps % heads, row % steps,
                          [&](int64_t key, A logit) HWY_ATTR { to[key] = shift ? exp_of(logit - shift[row]) : logit; });
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_scores);

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_scores)(context, weights, lse, in, params);
}

void attention_logits(Context& context, const Tensor& logits, const AttentionInputs& in,
                      const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_scores)(context, logits, {}, in, params);
}

}  // namespace ballast::cpu
#endif
