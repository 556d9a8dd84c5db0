#include "model/config.h"

#include <fmt/format.h>

#include "base/config_visitor.h"

namespace ballast::model {
namespace {

constexpr std::array<std::string_view, 2> kGeluNames{"gelu_tanh", "gelu_erf"};
constexpr int64_t kLargestHeadDim = 256;

}  // namespace

void ModelConfig::visit(FieldVisitor& v) {
    v.section("model",
              "The network: GPT-NeoX (Pythia) with a choice of attention normaliser, sink tokens and positions");
    v.field("vocab_size", vocab_size, "rows of the embedding, padding and sink tokens included",
            {.min = 1, .max = 1 << 30});
    v.field("hidden_size", hidden_size, "width of the residual stream", {.min = 1, .max = 1 << 20});
    v.field("num_layers", num_layers, "transformer layers", {.min = 1, .max = 10000});
    v.field("num_heads", num_heads, "attention heads", {.min = 1, .max = 1 << 20});
    v.field("intermediate_size", intermediate_size, "width of the feed-forward layer; 0: 4 * hidden_size",
            {.min = 0, .max = 1 << 24});
    v.field("max_position_embeddings", max_position_embeddings, "positions the model is trained on",
            {.min = 1, .max = 1 << 30});
    v.field("rotary_pct", rotary_pct, "share of each head's dims that rotate", {.min = 0, .max = 1});
    v.field("rotary_base", rotary_base, "base of the rotary frequencies", {.min = 1});
    v.field("layer_norm_eps", layer_norm_eps, "added to the variance in LayerNorm", {.min = 0, .max = 1});
    v.field("hidden_act", hidden_act, kGeluNames,
            "gelu_tanh is what Pythia was trained with, gelu_erf what its config.json says");
    v.field("parallel_residual", parallel_residual, "x + Attn(LN1 x) + MLP(LN2 x) instead of one after the other");
    v.field("tie_word_embeddings", tie_word_embeddings, "the output head is the input embedding");
    v.field("position", position, kPositionNames, "how attention knows where tokens stand");
    v.field("normaliser", normaliser, kNormaliserNames, "what divides the attention weights; see docs/architecture.md");
    v.field("num_sink_tokens", num_sink_tokens, "learnable tokens prepended to every sample",
            {.min = 0, .max = 1 << 20});
    v.field("sink_token_id", sink_token_id, "first sink token's id; -1: right after the tokenizer's ids",
            {.min = -1, .max = 1 << 30});
}

int64_t ModelConfig::rotary_dims() const {
    if (position != Position::rope) return 0;
    return static_cast<int64_t>(static_cast<double>(head_dim()) * rotary_pct);
}

void ModelConfig::validate() const {
    if (hidden_size % num_heads != 0)
        throw UserError(fmt::format(
            "model.hidden_size = {} is not a multiple of model.num_heads = {}; make it {} or change the heads",
            hidden_size, num_heads, (hidden_size / num_heads + 1) * num_heads));
    if (head_dim() > kLargestHeadDim)
        throw UserError(fmt::format(
            "model.hidden_size / model.num_heads = {} dims a head; at most {} are supported, use more heads",
            head_dim(), kLargestHeadDim));
    if (rotary_dims() % 2 != 0)
        throw UserError(fmt::format("model.rotary_pct = {} rotates {} of {} dims a head; the number must be even",
                                    rotary_pct, rotary_dims(), head_dim()));
    if (num_sink_tokens >= max_position_embeddings)
        throw UserError(fmt::format("model.num_sink_tokens = {} leaves no room in model.max_position_embeddings = {}",
                                    num_sink_tokens, max_position_embeddings));
    if (num_sink_tokens > 0 && sink_token_id >= 0 && sink_token_id + num_sink_tokens > vocab_size)
        throw UserError(fmt::format("sink tokens take ids {} to {}, but model.vocab_size = {}; raise it to at least {}",
                                    sink_token_id, sink_token_id + num_sink_tokens - 1, vocab_size,
                                    sink_token_id + num_sink_tokens));
}

FlopsPerToken flops_per_token(const ModelConfig& config, int64_t parameters, int64_t sequence_length) {
    const int64_t embed_in = config.tie_word_embeddings ? 0 : config.vocab_size * config.hidden_size;
    const auto matmul = 6.0 * static_cast<double>(parameters - embed_in);
    const auto attention = 12.0 * static_cast<double>(config.num_layers * config.hidden_size * sequence_length);
    return {matmul + attention, matmul + attention / 2};
}

}  // namespace ballast::model
