// Shared by both backward passes of attention: scratch memory, and the work on whole rows before and after the tiles
// (compiled once for every target).

#include "kernels/cpu/attention-inl.h"

#ifndef BALLAST_KERNELS_CPU_ATTENTION_BACKWARD_SCRATCH_H_
#define BALLAST_KERNELS_CPU_ATTENTION_BACKWARD_SCRATCH_H_
namespace ballast::cpu {

/// Offsets, in elements, of the arrays that attention_backward has in scratch memory.
struct BackwardScratch {
    int64_t stride, d_q_head, delta, d_sink_query, d_sink_logit, total;

    template <class A>
    static BackwardScratch plan(const AttentionInputs& in) {
        const int64_t B = in.q.dim(0), T = in.q.dim(1), H = in.q.dim(2), stride = tile_stride<A>(in.q.dim(3));
        const int64_t d_q = B * H * T * stride, delta = B * H * T;
        const int64_t d_sink_query = in.sink_query.empty() ? 0 : d_q;
        return {stride, T * stride, d_q, d_q + delta, d_q + delta + d_sink_query, d_q + delta + d_sink_query + B * H};
    }
};

}  // namespace ballast::cpu
#endif

#if defined(BALLAST_KERNELS_CPU_ATTENTION_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_ATTENTION_BACKWARD_INL_H_
#undef BALLAST_KERNELS_CPU_ATTENTION_BACKWARD_INL_H_
#else
#define BALLAST_KERNELS_CPU_ATTENTION_BACKWARD_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// The tensors of a backward pass and its scratch memory.
template <class A>
struct BackwardCall {
    const AttentionGradients& gradients;
    const Tensor &d_out, &out, &lse;
    const AttentionInputs& in;
    const AttentionParams& params;
    const BackwardScratch plan;
    A* scratch;
};

/// The rows of one (batch, key-value head): D, the partial sums of dQ, and the stores of results.
template <class T>
class BackwardRows {
  public:
    using A = Accumulator<T>;
    using D = hn::ScalableTag<A>;

    BackwardRows(const BackwardCall<A>& call, int64_t b, int64_t g)
        : call_(call),
          b_(b),
          g_(g),
          heads_(call.in.q.dim(2)),
          group_(heads_ / call.in.k.dim(2)),
          steps_(call.in.q.dim(1)),
          dims_(call.in.q.dim(3)),
          stride_(call.plan.stride),
          scale_(static_cast<A>(call.params.scale)) {}

    /// The query heads of the group.
    Range heads() const { return {g_ * group_, (g_ + 1) * group_}; }

    /// Computes D of every row and this batch's part of d_sink_logit; clears the partial sums of dQ.
    void start_head(int64_t h) const {
        A* delta_row = delta(h);
        for (int64_t t = 0; t < steps_; ++t) {
            const T *d_o = head_row<const T>(call_.d_out, b_, t, h), *o = head_row<const T>(call_.out, b_, t, h);
            delta_row[t] = reduce_sum<A>(dims_, [&](int64_t i, auto lanes) HWY_ATTR {
                return hn::Mul(load(D(), d_o + i, lanes), load(D(), o + i, lanes));
            });
        }
        std::fill_n(d_q_rows(h), call_.plan.d_q_head, A(0));
        if (!call_.in.sink_query.empty()) std::fill_n(d_sink_query_rows(h), call_.plan.d_q_head, A(0));
        if (!has_learned_sink_logit(call_.params.normaliser)) return;
        const A z = sink_logit_of<A>(call_.params, h);
        const A* lse_row = lse(h);
        call_.scratch[call_.plan.d_sink_logit + head_index(h)] =
            -reduce_sum<A>(steps_, [&](int64_t t, auto lanes) HWY_ATTR {
                return hn::Mul(exp(D(), hn::Sub(hn::Set(D(), z), load(D(), lse_row + t, lanes))),
                               load(D(), delta_row + t, lanes));
            });
    }

    void finish_head(int64_t h) const {
        store_rows(call_.gradients.d_q, h, 0, steps_, d_q_rows(h), scale_);
        if (!call_.in.sink_query.empty())
            store_rows(call_.gradients.d_sink_query, h, 0, steps_, d_sink_query_rows(h), scale_);
    }

    /// to[b, first … first + rows, head] = from * factor.
    void store_rows(const Tensor& to, int64_t head, int64_t first, int64_t rows, const A* from, A factor) const {
        const auto f = hn::Set(D(), factor);
        for (int64_t r = 0; r < rows; ++r) {
            T* row = head_row<T>(to, b_, first + r, head);
            for_vectors(D(), dims_, [&](int64_t i, auto lanes) HWY_ATTR {
                store(hn::Mul(load(D(), from + r * stride_ + i, lanes), f), D(), row + i, lanes);
            });
        }
    }

    /// Converts logits to P' and dP = dO V^T to dS, in the dtype of p and d_s, which may share the inputs' memory.
    template <class P>
    HWY_INLINE void score_row(P* p, P* d_s, const A* logits, const A* d_p, Range runs, int64_t h, int64_t t) const {
        const D d;
        const auto shift = hn::Set(d, lse(h)[t]), mean = hn::Set(d, delta(h)[t]);
        for (int64_t c = runs.begin; c < runs.end; c += static_cast<int64_t>(hn::Lanes(d))) {
            const auto weight = exp(d, hn::Sub(hn::LoadU(d, logits + c), shift));
            store(weight, d, p + c, All{});
            store(hn::Mul(weight, hn::Sub(hn::LoadU(d, d_p + c), mean)), d, d_s + c, All{});
        }
    }

  protected:
    int64_t head_index(int64_t h) const { return b_ * heads_ + h; }
    A* d_q_rows(int64_t h) const { return call_.scratch + head_index(h) * call_.plan.d_q_head; }
    A* d_sink_query_rows(int64_t h) const {
        return call_.scratch + call_.plan.d_sink_query + head_index(h) * call_.plan.d_q_head;
    }
    A* delta(int64_t h) const { return call_.scratch + call_.plan.delta + head_index(h) * steps_; }
    const A* lse(int64_t h) const { return static_cast<const A*>(call_.lse.data) + head_index(h) * steps_; }

    const BackwardCall<A>& call_;
    const int64_t b_, g_, heads_, group_, steps_, dims_, stride_;
    const A scale_;
};

/// Calls Task(call, b, g).run(parts) for every (batch, key-value head), then sums d_sink_logit.
template <class Task>
void for_every_key_head(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    using A = typename Task::A;
    const KeyParts parts(in, params);
    const auto plan = BackwardScratch::plan<A>(in);
    const Scratch::Block block(context.scratch(), static_cast<size_t>(plan.total) * sizeof(A));
    A* scratch = static_cast<A*>(block.data());
    const BackwardCall<A> call{gradients, d_out, out, lse, in, params, plan, scratch};
    const int64_t groups = in.k.dim(2), batches = in.q.dim(0), heads = in.q.dim(2);
    context.pool().parallel_for(batches * groups,
                                [&](int64_t task) HWY_ATTR { Task(call, task / groups, task % groups).run(parts); });
    if (gradients.d_sink_logit_H.empty()) return;
    A* d_sink_logit = gradients.d_sink_logit_H.ptr<A>();
    for (int64_t b = 0; b < batches; ++b)
        for (int64_t h = 0; h < heads; ++h) d_sink_logit[h] += scratch[plan.d_sink_logit + b * heads + h];
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
