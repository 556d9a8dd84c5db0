// The host side of attention: chooses the kernels by dtype and shape. 16-bit types use the tensor cores
// (attention_mma_*.cuh or attention_wgmma_*.cuh, see attention_choice.h); wider types use the plain multipliers
// (attention_fma.cuh).

#include "kernels/cuda/attention_choice.h"
#include "kernels/cuda/attention_fma.cuh"
#include "kernels/cuda/attention_launch.h"
#include "kernels/cuda/attention_wgmma.h"

namespace ballast::cuda {
namespace {

bool wants_wgmma(const Context& context) {
    switch (context.attention_kernels()) {
        case AttentionKernels::mma: return false;
        case AttentionKernels::wgmma: return has_wgmma_attention();
        default: return prefers_wgmma(context.device());
    }
}

/// Scratch memory of the backward pass: D, and partial sums of the sink logit's gradient.
struct BackwardMemory {
    explicit BackwardMemory(const AttentionInputs& in)
        : batches(in.q.dim(0)),
          steps(in.q.dim(1)),
          heads(in.q.dim(2)),
          sink_tiles(ceil_div(steps, kSinkLogitRows)),
          delta_bytes(padded(static_cast<size_t>(batches * steps * heads) * size_of(accumulation_dtype(in.q.dtype)))) {}
    size_t bytes() const { return delta_bytes + static_cast<size_t>(heads * batches * sink_tiles) * sizeof(double); }

    int64_t batches, steps, heads, sink_tiles;
    size_t delta_bytes;
};

/// D = rowsum(d_out * out), and what it gives the sink logit.
template <class T>
void start_backward(Context& context, const BackwardMemory& plan, char* memory, const AttentionGradients& gradients,
                    const Tensor& d_out, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                    const AttentionParams& params) {
    using A = Accumulator<T>;
    A* delta = reinterpret_cast<A*>(memory);
    launch(attention_delta_kernel<T>, attention_grid(ceil_div(plan.steps, kRowsAtOnce), plan.heads, plan.batches),
           kAttentionThreads, {}, context.stream(), delta, HeadRows<const T>(d_out), HeadRows<const T>(out), plan.steps,
           static_cast<int>(in.q.dim(3)));
    if (gradients.d_sink_logit_H.empty()) return;
    auto* partials = reinterpret_cast<double*>(memory + plan.delta_bytes);
    launch(attention_sink_logit_kernel<A>, attention_grid(plan.sink_tiles, plan.heads, plan.batches), kSinkLogitThreads,
           {}, context.stream(), partials, data_of<const A>(params.sink_logit_H), data_of<const A>(lse), delta,
           plan.steps);
    launch(attention_sink_logit_sum_kernel<A>, grid_of(plan.heads, 1), kSinkLogitThreads, {}, context.stream(),
           data_of<A>(gradients.d_sink_logit_H), partials, plan.batches * plan.sink_tiles);
}

/// Weights of rows with this lse; logits without one.
void attention_scores(Context& context, const Tensor& scores, const Tensor& lse, const AttentionInputs& in,
                      const AttentionParams& params) {
    constexpr int kThreads = 128;
    if (scores.numel() == 0) return;
    with_compute_type(in.q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        launch(attention_scores_kernel<T>, grid_of(scores.numel(), kThreads), kThreads, {}, context.stream(),
               data_of<A>(scores), data_of<const A>(lse), AttentionOperands<T>(in, params), in.q.dim(2), in.k.dim(1),
               scores.numel());
    });
}

}  // namespace

/// What wgmma takes. Asked before wants_wgmma(), whose first call takes memory to try it.
bool is_16_bit(const AttentionInputs& in) { return size_of(in.q.dtype) == 2; }

void attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    if (!has_queries(in)) return;
    with_mask(params.mask, [&]<bool kByRow>() {
        if (is_16_bit(in) && wants_wgmma(context) && wgmma_attention_forward<kByRow>(context, out, lse, in, params))
            return;
        launch_attention_forward<kByRow>(context, out, lse, in, params);
    });
}

void attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    const BackwardMemory plan(in);
    const Scratch::Block scratch(context.scratch(), plan.bytes());
    char* memory = static_cast<char*>(scratch.data());
    if (has_queries(in))
        with_compute_type(in.q.dtype, [&]<class T>(T) {
            start_backward<T>(context, plan, memory, gradients, d_out, out, lse, in, params);
        });
    with_mask(params.mask, [&]<bool kByRow>() {
        if (is_16_bit(in) && wants_wgmma(context) &&
            wgmma_attention_backward<kByRow>(context, gradients, d_out, lse, memory, in, params))
            return;
        launch_attention_backward<kByRow>(context, gradients, d_out, lse, memory, in, params);
    });
}

size_t attention_backward_scratch_bytes(const Context&, const AttentionInputs& in) {
    return BackwardMemory(in).bytes();
}

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    attention_scores(context, weights, lse, in, params);
}

void attention_logits(Context& context, const Tensor& logits, const AttentionInputs& in,
                      const AttentionParams& params) {
    attention_scores(context, logits, {}, in, params);
}

}  // namespace ballast::cuda
