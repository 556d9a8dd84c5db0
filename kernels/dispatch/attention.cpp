#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

void check_attention(const AttentionInputs& in, const AttentionParams& params) {
    expect_compute(in.q.dtype);
    require(in.q.rank == 4 && in.k.rank == 4, "attention works on [B,T,H,D] and [B,S,G,D]");
    const Dtype x = in.q.dtype, acc = accumulation_dtype(x);
    const int64_t B = in.q.dim(0), T = in.q.dim(1), H = in.q.dim(2), D = in.q.dim(3), S = in.k.dim(1), G = in.k.dim(2);
    require(D >= 1 && D <= kMaxHeadDim, "the head dim must be in [1, 256]");
    require(G >= 1 && H % G == 0, "heads must be a multiple of key-value heads");
    expect_rows(in.q, "q", x, {B, T, H, D});
    expect_rows(in.k, "k", x, {B, S, G, D});
    expect_rows(in.v, "v", x, {B, S, G, D});
    if (!in.sink_query.empty()) expect_rows(in.sink_query, "sink_query", x, {B, T, H, D});
    check_heads(params, acc, H);
    const AttentionMask& mask = params.mask;
    if (!mask.query_position_BT.empty()) expect_dense(mask.query_position_BT, "query_position", Dtype::i32, {B, T});
    if (!mask.first_key_BT.empty()) expect_dense(mask.first_key_BT, "first_key", Dtype::i32, {B, T});
    constexpr int64_t kMaxPositions = int64_t{1} << 30;
    require(!mask.is_by_row() || (mask.query_start + T <= kMaxPositions && mask.key_start + S <= kMaxPositions),
            "masks by row are of positions below 2^30");
    require(mask.num_sink_positions >= 0 && mask.query_start >= 0, "negative position");
    require(S <= mask.num_sink_positions || mask.key_start >= mask.num_sink_positions,
            "key_start must not be below num_sink_positions");
}

void check_attention(const AttentionInputs& in, const AttentionParams& params, const Tensor& lse) {
    check_attention(in, params);
    expect_dense(lse, "lse", accumulation_dtype(in.q.dtype), {in.q.dim(0), in.q.dim(2), in.q.dim(1)});
}

/// A number for every query and key.
void expect_scores(const Tensor& scores, const char* name, const AttentionInputs& in) {
    expect_dense(scores, name, accumulation_dtype(in.q.dtype), {in.q.dim(0), in.q.dim(2), in.q.dim(1), in.k.dim(1)});
}

}  // namespace

void attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    check_attention(in, params, lse);
    expect_rows(out, "out", in.q.dtype, {in.q.dim(0), in.q.dim(1), in.q.dim(2), in.q.dim(3)});
    run<cpu::attention_forward, cuda::attention_forward>(context, out, lse, in, params);
}

void attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    check_attention(in, params, lse);
    const Dtype x = in.q.dtype;
    const int64_t B = in.q.dim(0), T = in.q.dim(1), H = in.q.dim(2), D = in.q.dim(3), S = in.k.dim(1), G = in.k.dim(2);
    expect_rows(out, "out", x, {B, T, H, D});
    expect_rows(d_out, "d_out", x, {B, T, H, D});
    expect_rows(gradients.d_q, "d_q", x, {B, T, H, D});
    expect_rows(gradients.d_k, "d_k", x, {B, S, G, D});
    expect_rows(gradients.d_v, "d_v", x, {B, S, G, D});
    require(gradients.d_sink_query.empty() == in.sink_query.empty(), "d_sink_query comes exactly with sink_query");
    if (!in.sink_query.empty()) expect_rows(gradients.d_sink_query, "d_sink_query", x, {B, T, H, D});
    const bool learned = has_learned_sink_logit(params.normaliser);
    require(gradients.d_sink_logit_H.empty() || learned, "d_sink_logit without a learned sink logit");
    if (!gradients.d_sink_logit_H.empty())
        expect_dense(gradients.d_sink_logit_H, "d_sink_logit", accumulation_dtype(x), {H});
    run<cpu::attention_backward, cuda::attention_backward>(context, gradients, d_out, out, lse, in, params);
}

size_t attention_backward_scratch_bytes(const Context& context, const AttentionInputs& in) {
    return run<cpu::attention_backward_scratch_bytes, cuda::attention_backward_scratch_bytes>(context, in);
}

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    check_attention(in, params, lse);
    expect_scores(weights, "weights", in);
    run<cpu::attention_weights, cuda::attention_weights>(context, weights, lse, in, params);
}

void attention_logits(Context& context, const Tensor& logits, const AttentionInputs& in,
                      const AttentionParams& params) {
    check_attention(in, params);
    expect_scores(logits, "logits", in);
    run<cpu::attention_logits, cuda::attention_logits>(context, logits, in, params);
}

void attention_influence(Context& context, const Influence& influence, int64_t block, const Tensor& d_out,
                         const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                         const AttentionParams& params) {
    check_attention(in, params, lse);
    const Dtype x = in.q.dtype;
    const int64_t B = in.q.dim(0), T = in.q.dim(1), H = in.q.dim(2), D = in.q.dim(3), S = in.k.dim(1);
    expect_rows(out, "out", x, {B, T, H, D});
    expect_rows(d_out, "d_out", x, {B, T, H, D});
    require(block >= 1, "influence is summed over blocks of at least one row");
    for (const Tensor* sums : {&influence.absolute_BHIJ, &influence.signed_sum_BHIJ})
        if (!sums->empty())
            expect_dense(*sums, "influence", accumulation_dtype(x),
                         {B, H, (T + block - 1) / block, (S + block - 1) / block});
    run<cpu::attention_influence, cuda::attention_influence>(context, influence, block, d_out, out, lse, in, params);
}

void attention_span_effect(Context& context, const Tensor& effect, int64_t block, int64_t sinks, const Tensor& d_out,
                           const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                           const AttentionParams& params) {
    check_attention(in, params, lse);
    const Dtype x = in.q.dtype;
    const int64_t B = in.q.dim(0), T = in.q.dim(1), H = in.q.dim(2), D = in.q.dim(3);
    expect_rows(out, "out", x, {B, T, H, D});
    expect_rows(d_out, "d_out", x, {B, T, H, D});
    expect_dense(effect, "effect", accumulation_dtype(x), {B, H, effect.dim(2)});
    require(block >= 1 && sinks >= 0, "spans are multiples of a block of at least one row, behind no or some sinks");
    run<cpu::attention_span_effect, cuda::attention_span_effect>(context, effect, block, sinks, d_out, out, lse, in,
                                                                 params);
}

void attention_key_mass(Context& context, const Tensor& mass, const Tensor& lse, const AttentionInputs& in,
                        const AttentionParams& params) {
    check_attention(in, params, lse);
    expect_dense(mass, "mass", accumulation_dtype(in.q.dtype), {in.q.dim(0), in.q.dim(2), in.k.dim(1)});
    run<cpu::attention_key_mass, cuda::attention_key_mass>(context, mass, lse, in, params);
}

}  // namespace ballast::ops
