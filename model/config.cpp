#include "model/config.h"

#include <fmt/format.h>

#include "base/config_visitor.h"
#include "model/family.h"

namespace ballast::model {
namespace {

constexpr int64_t kLargestHeadDim = 256;

}  // namespace

void ModelConfig::visit(FieldVisitor& v) {
    v.section("model",
              "The network: a decoder of GPT-NeoX's (Pythia's), Llama's, MPT's or Falcon's family, with a choice of "
              "attention normaliser, sink tokens and positions; configs/families has one of each");
    v.field("family", family, kFamilyNames, "whose names the tensors have, in checkpoints and exports");
    v.field("vocab_size", vocab_size, "rows of the embedding, padding and sink tokens included",
            {.min = 1, .max = 1 << 30});
    v.field("hidden_size", hidden_size, "width of the residual stream", {.min = 1, .max = 1 << 20});
    v.field("num_layers", num_layers, "transformer layers", {.min = 1, .max = 10000});
    v.field("num_heads", num_heads, "attention heads", {.min = 1, .max = 1 << 20});
    v.field("num_key_value_heads", num_key_value_heads,
            "heads of keys and values, each shared by a group of attention heads; 0: one for each",
            {.min = 0, .max = 1 << 20});
    v.field("head_dim", dims_per_head, "dims of a head; 0: hidden_size / num_heads", {.min = 0, .max = 1 << 20});
    v.field("intermediate_size", intermediate_size, "width of the feed-forward layer; 0: 4 * hidden_size",
            {.min = 0, .max = 1 << 24});
    v.field("max_position_embeddings", max_position_embeddings, "positions the model is trained on",
            {.min = 1, .max = 1 << 30});
    v.field("norm", norm, kNormNames, "what normalises the residual stream before attention, MLP and head");
    v.field("norm_bias", norm_bias, "norms add a bias");
    v.field("shared_norm", shared_norm, "one norm for attention and MLP; needs parallel_residual");
    v.field("layer_norm_eps", layer_norm_eps, "added to the variance in LayerNorm, to the mean square in RMSNorm",
            {.min = 0, .max = 1});
    v.field("hidden_act", hidden_act, kActivationNames,
            "gelu_tanh is what Pythia was trained with, gelu_erf what its config.json says; swiglu is gated");
    v.field("qkv_bias", qkv_bias, "queries, keys and values have biases");
    v.field("attention_out_bias", attention_out_bias, "the projection after attention has a bias");
    v.field("mlp_bias", mlp_bias, "the MLP's products have biases");
    v.field("parallel_residual", parallel_residual, "x + Attn(N1 x) + MLP(N2 x) instead of one after the other");
    v.field("tie_word_embeddings", tie_word_embeddings, "the output head is the input embedding");
    v.field("clip_qkv", clip_qkv, "queries, keys and values are clamped to this magnitude; 0: not", {.min = 0});
    v.field("attention_scale", attention_scale, "multiplies q·k; 0: 1 / sqrt(head_dim)", {.min = 0});
    v.field("position", position, kPositionNames, "how attention knows where tokens stand");
    v.field("rotary_pct", rotary_pct, "share of each head's dims that rotate", {.min = 0, .max = 1});
    v.field("rotary_base", rotary_base, "base of the rotary frequencies", {.min = 1});
    v.field("alibi_bias_max", alibi_bias_max, "ALiBi's slopes of n heads are 2^(-alibi_bias_max i / n)",
            {.min = 0, .max = 1e4});
    v.field("attention_span", attention_span,
            "earlier positions a query sees besides its own, a number for each layer, repeated from the first when "
            "there are fewer; 0: all",
            {.min = 0, .max = 1 << 30});
    v.field("normaliser", normaliser, kNormaliserNames, "what divides the attention weights; see docs/attention.md");
    v.field("gate", gate, kGateNames, "headwise: each head's output is multiplied by sigmoid(x w_h), w_h learned");
    v.field("num_sink_tokens", num_sink_tokens, "learnable tokens prepended to every sample",
            {.min = 0, .max = 1 << 20});
    v.field("sink_token_id", sink_token_id, "first sink token's id; -1: right after the tokenizer's ids",
            {.min = -1, .max = 1 << 30});
    rope_scaling.visit(v);
}

int64_t ModelConfig::rotary_dims() const {
    if (position != Position::rope) return 0;
    return static_cast<int64_t>(static_cast<double>(head_dim()) * rotary_pct);
}

namespace {

void require_whole_heads(const ModelConfig& c) {
    if (c.dims_per_head == 0 && c.hidden_size % c.num_heads != 0)
        throw UserError(fmt::format(
            "model.hidden_size = {} is not a multiple of model.num_heads = {}; make it {} or change the heads",
            c.hidden_size, c.num_heads, (c.hidden_size / c.num_heads + 1) * c.num_heads));
    if (c.head_dim() > kLargestHeadDim)
        throw UserError(fmt::format("{} = {} dims a head; at most {} are supported, use more heads",
                                    c.dims_per_head > 0 ? "model.head_dim" : "model.hidden_size / model.num_heads",
                                    c.head_dim(), kLargestHeadDim));
    if (c.num_heads % c.key_value_heads() != 0)
        throw UserError(fmt::format("model.num_heads = {} is not a multiple of model.num_key_value_heads = {}",
                                    c.num_heads, c.num_key_value_heads));
}

void require_rope(const ModelConfig& c) {
    const int64_t R = c.rotary_dims();
    if (R % 2 != 0)
        throw UserError(fmt::format("model.rotary_pct = {} rotates {} of {} dims a head; the number must be even",
                                    c.rotary_pct, R, c.head_dim()));
    const RopeScaling& scaling = c.rope_scaling;
    if (scaling.kind == RopeScalingKind::none) return;
    if (R == 0) throw UserError("model.rope_scaling.kind is set, but no dims rotate; set model.position = \"rope\"");
    if (scaling.kind == RopeScalingKind::dynamic && R == 2)
        throw UserError("model.rope_scaling.kind = \"dynamic\" needs more than two rotated dims a head");
    if (scaling.kind == RopeScalingKind::llama3 && scaling.low_freq_factor >= scaling.high_freq_factor)
        throw UserError(fmt::format("model.rope_scaling.low_freq_factor = {} must be below high_freq_factor = {}",
                                    scaling.low_freq_factor, scaling.high_freq_factor));
}

void require_sink_tokens(const ModelConfig& c) {
    if (c.num_sink_tokens >= c.max_position_embeddings)
        throw UserError(fmt::format("model.num_sink_tokens = {} leaves no room in model.max_position_embeddings = {}",
                                    c.num_sink_tokens, c.max_position_embeddings));
    if (c.num_sink_tokens > 0 && c.sink_token_id >= 0 && c.sink_token_id + c.num_sink_tokens > c.vocab_size)
        throw UserError(fmt::format("sink tokens take ids {} to {}, but model.vocab_size = {}; raise it to at least {}",
                                    c.sink_token_id, c.sink_token_id + c.num_sink_tokens - 1, c.vocab_size,
                                    c.sink_token_id + c.num_sink_tokens));
}

}  // namespace

void ModelConfig::validate() const {
    require_whole_heads(*this);
    require_rope(*this);
    require_sink_tokens(*this);
    if (shared_norm && !parallel_residual)
        throw UserError("model.shared_norm is for the parallel residual; set model.parallel_residual = true");
    if (attention_span.empty())
        throw UserError("model.attention_span is empty; give a number for each layer, or [0] for no window");
    family_of(*this).check(*this);
}

FlopsPerToken flops_per_token(const ModelConfig& config, int64_t parameters, int64_t sequence_length) {
    const int64_t embed_in = config.tie_word_embeddings ? 0 : config.vocab_size * config.hidden_size;
    const auto matmul = 6.0 * static_cast<double>(parameters - embed_in);
    const auto attention = 12.0 * static_cast<double>(config.num_layers * config.attention_dim() * sequence_length);
    return {matmul + attention, matmul + attention / 2};
}

}  // namespace ballast::model
