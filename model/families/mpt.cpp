// MPT (MosaicML; transformers' modeling_mpt). Where transformers ignores a key of the file (alibi_bias_max,
// expansion_ratio), the file is followed, as the original code does.
#include <array>
#include <cmath>

#include "model/families/families.h"

namespace ballast::model {
namespace {

using enum Role;

constexpr std::array kSpellings{
    Spelling{embed_in, "transformer.wte.weight"},
    Spelling{norm1_weight, "transformer.blocks.{}.norm_1.weight"},
    Spelling{norm2_weight, "transformer.blocks.{}.norm_2.weight"},
    Spelling{query_key_value_weight, "transformer.blocks.{}.attn.Wqkv.weight"},
    Spelling{attention_dense_weight, "transformer.blocks.{}.attn.out_proj.weight"},
    Spelling{attention_sinks, "transformer.blocks.{}.attn.sinks"},
    Spelling{attention_gate_weight, "transformer.blocks.{}.attn.gate.weight"},
    Spelling{mlp_up_weight, "transformer.blocks.{}.ffn.up_proj.weight"},
    Spelling{mlp_down_weight, "transformer.blocks.{}.ffn.down_proj.weight"},
    Spelling{final_norm_weight, "transformer.norm_f.weight"},
    Spelling{embed_out, "lm_head.weight"},
};

constexpr std::array<std::string_view, 1> kModelTypes{"mpt"};

void check(const ModelConfig& c) {
    const auto wants = [](bool holds, std::string_view field, std::string_view wanted) {
        require_of_family(holds, FamilyName::mpt, field, wanted);
    };
    wants(c.norm == Norm::layernorm, "norm", "it has layernorm");
    wants(!c.norm_bias, "norm_bias", "its norms have none; set false");
    wants(!c.parallel_residual, "parallel_residual", "attention and MLP follow one another; set false");
    wants(c.hidden_act == Activation::gelu_erf, "hidden_act", "its MLP has gelu_erf");
    wants(!c.qkv_bias, "qkv_bias", "it has none; set false");
    wants(!c.attention_out_bias, "attention_out_bias", "it has none; set false");
    wants(!c.mlp_bias, "mlp_bias", "it has none; set false");
    wants(c.key_value_heads() == c.num_heads, "num_key_value_heads", "every head has its own; set 0");
    wants(c.attention_dim() == c.hidden_size, "head_dim", "it is hidden_size / num_heads; set 0");
    wants(c.rope_scaling.kind == RopeScalingKind::none, "rope_scaling.kind", "its positions are ALiBi's; set none");
    wants(c.position != Position::rope, "position", "it has alibi (or none)");
}

int64_t either(const ConfigJson& file, const char* own, const char* common) {
    return file.has(own) ? file.get<int64_t>(own) : file.get<int64_t>(common);
}

/// expansion_ratio times the width: a whole number, but for the rounding of a ratio that has no exact decimals.
int64_t feed_forward_width(const ConfigJson& file, int64_t hidden_size) {
    const double width = file.get_or("expansion_ratio", 4.0) * static_cast<double>(hidden_size),
                 whole = std::round(width);
    constexpr double kMost = 0x1p53;  // a double holds every whole number up to here
    if (!(whole >= 1 && whole <= kMost && std::abs(width - whole) <= 1e-9 * whole))
        throw UserError(
            fmt::format("{}: \"expansion_ratio\" times the width is {}, not a whole number", file.path(), width));
    return static_cast<int64_t>(whole);
}

void read_attention(const ConfigJson& a, ModelConfig& c) {
    a.require("alibi", true, "MPT without ALiBi is not supported");
    a.require("qk_ln", false, "norms of queries and keys are not supported");
    a.require("prefix_lm", false, "a prefix that sees itself is not supported");
    a.require("attn_type", std::string("multihead_attention"), "only multihead_attention is supported");
    a.require("kv_n_heads", c.num_heads, "grouped key-value heads are not supported for mpt");
    c.alibi_bias_max = a.get_or("alibi_bias_max", 8.0);
    c.clip_qkv = a.get_or("clip_qkv", 0.0);
    c.attention_scale = a.get_or("softmax_scale", 0.0);
}

void read(const ConfigJson& file, ModelConfig& c) {
    c.vocab_size = file.get<int64_t>("vocab_size");
    c.hidden_size = either(file, "d_model", "hidden_size");
    c.num_heads = either(file, "n_heads", "num_attention_heads");
    c.num_layers = either(file, "n_layers", "num_hidden_layers");
    c.max_position_embeddings = file.get_or<int64_t>("max_seq_len", 2048);
    c.intermediate_size = feed_forward_width(file, c.hidden_size);
    c.norm_bias = c.qkv_bias = c.attention_out_bias = c.mlp_bias = false;
    c.layer_norm_eps = file.get_or("layer_norm_epsilon", 1e-5);
    c.hidden_act = Activation::gelu_erf;
    c.parallel_residual = false;
    c.tie_word_embeddings = file.get_or("tie_word_embeddings", true);
    c.position = Position::alibi;
    const auto norm = file.get_or<std::string>("norm_type", "low_precision_layernorm");
    if (norm != "low_precision_layernorm" && norm != "layernorm")
        throw UserError(fmt::format("{}: norm_type \"{}\" is not supported; layernorm and low_precision_layernorm are",
                                    file.path(), norm));
    file.require("no_bias", true, "biases are not supported for mpt");
    if (file.has("logit_scale"))
        throw UserError(fmt::format("{}: \"logit_scale\" is not supported; null is", file.path()));
    if (file.has("attn_config")) read_attention(file.inside("attn_config"), c);
}

nlohmann::ordered_json write(const ModelConfig& c) {
    nlohmann::ordered_json out, attention;
    out["architectures"] = {"MptForCausalLM"};
    out["model_type"] = "mpt";
    out["vocab_size"] = c.vocab_size;
    out["d_model"] = c.hidden_size;
    out["n_layers"] = c.num_layers;
    out["n_heads"] = c.num_heads;
    if (const int64_t F = c.feed_forward_dim(); F % c.hidden_size == 0)
        out["expansion_ratio"] = F / c.hidden_size;
    else
        out["expansion_ratio"] = static_cast<double>(F) / static_cast<double>(c.hidden_size);
    out["max_seq_len"] = c.max_position_embeddings;
    out["layer_norm_epsilon"] = c.layer_norm_eps;
    out["no_bias"] = true;
    out["tie_word_embeddings"] = c.tie_word_embeddings;
    attention["alibi"] = true;
    if (const auto whole = static_cast<int64_t>(c.alibi_bias_max); static_cast<double>(whole) == c.alibi_bias_max)
        attention["alibi_bias_max"] = whole;
    else
        attention["alibi_bias_max"] = c.alibi_bias_max;
    attention["attn_type"] = "multihead_attention";
    attention["clip_qkv"] = c.clip_qkv > 0 ? nlohmann::ordered_json(c.clip_qkv) : nlohmann::ordered_json();
    attention["prefix_lm"] = false;
    attention["qk_ln"] = false;
    attention["softmax_scale"] =
        c.attention_scale > 0 ? nlohmann::ordered_json(c.attention_scale) : nlohmann::ordered_json();
    out["attn_config"] = attention;
    return out;
}

}  // namespace

const Family kMpt{
    .name = FamilyName::mpt,
    .model_types = kModelTypes,
    .qkv_layout = ops::QkvLayout::concatenated,
    .position = Position::alibi,
    .spellings = [](const ModelConfig&) -> std::span<const Spelling> { return kSpellings; },
    .check = check,
    .read = read,
    .write = write,
    // Its code has both as constants.
    .as_in_transformers =
        [](const ModelConfig& c) { return c.alibi_bias_max == 8 && c.feed_forward_dim() == 4 * c.hidden_size; },
};

}  // namespace ballast::model
