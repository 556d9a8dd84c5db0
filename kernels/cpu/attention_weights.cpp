// The attention weights themselves, P' = exp(scale q k^T + bias - LSE'), for measurements on short sequences.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_weights.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/attention-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

template <class T>
void weights_of_row(const Tensor& weights, const Tensor& lse, const AttentionInputs& in, const AttentionParams& params,
                    const KeyParts& parts, int64_t b, int64_t h, int64_t t) {
    using A = Accumulator<T>;
    const hn::ScalableTag<A> d;
    const int64_t steps = in.q.dim(1), dims = in.q.dim(3), keys = in.k.dim(1), row = (b * in.q.dim(2) + h) * steps + t;
    const int64_t g = h / (in.q.dim(2) / in.k.dim(2));
    A* to = weights.ptr<A>() + row * keys;
    const A lse_row = lse.ptr<A>()[row], scale = static_cast<A>(params.scale);
    const HeadRules rules(params, h);
    std::fill_n(to, keys, A(0));
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
            to[part.first_row + c] = exp_of(product * scale + bias - lse_row);
        }
    }
}

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    const KeyParts parts(in, params);
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        const int64_t heads = in.q.dim(2), steps = in.q.dim(1);
        context.pool().parallel_for(in.q.dim(0) * heads * steps, [&](int64_t task) HWY_ATTR {
            weights_of_row<T>(weights, lse, in, params, parts, task / steps / heads, task / steps % heads, task % steps);
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(attention_weights);

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    HWY_DYNAMIC_DISPATCH(attention_weights)(context, weights, lse, in, params);
}

}  // namespace ballast::cpu
#endif
