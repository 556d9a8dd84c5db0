// Falcon (TII; transformers' modeling_falcon): 7B (one key-value head, one norm), 40B and later (the "new decoder
// architecture": groups, two norms), and the sequential one.
#include <array>

#include "model/families/families.h"

namespace ballast::model {
namespace {

using enum Role;

/// `norm1` and `norm2` are what the three layouts call their norms; the rest is the same for all.
struct Names {
    std::array<Spelling, 18> spellings;

    constexpr Names(std::array<std::string_view, 2> norm1, std::array<std::string_view, 2> norm2)
        : spellings{Spelling{embed_in, "transformer.word_embeddings.weight"},
                    Spelling{norm1_weight, norm1[0]},
                    Spelling{norm1_bias, norm1[1]},
                    Spelling{norm2_weight, norm2[0]},
                    Spelling{norm2_bias, norm2[1]},
                    Spelling{query_key_value_weight, "transformer.h.{}.self_attention.query_key_value.weight"},
                    Spelling{query_key_value_bias, "transformer.h.{}.self_attention.query_key_value.bias"},
                    Spelling{attention_dense_weight, "transformer.h.{}.self_attention.dense.weight"},
                    Spelling{attention_dense_bias, "transformer.h.{}.self_attention.dense.bias"},
                    Spelling{attention_sinks, "transformer.h.{}.self_attention.sinks"},
                    Spelling{attention_gate_weight, "transformer.h.{}.self_attention.gate.weight"},
                    Spelling{mlp_up_weight, "transformer.h.{}.mlp.dense_h_to_4h.weight"},
                    Spelling{mlp_up_bias, "transformer.h.{}.mlp.dense_h_to_4h.bias"},
                    Spelling{mlp_down_weight, "transformer.h.{}.mlp.dense_4h_to_h.weight"},
                    Spelling{mlp_down_bias, "transformer.h.{}.mlp.dense_4h_to_h.bias"},
                    Spelling{final_norm_weight, "transformer.ln_f.weight"},
                    Spelling{final_norm_bias, "transformer.ln_f.bias"},
                    Spelling{embed_out, "lm_head.weight"}} {}
};

constexpr Names kOldNames{
    {"transformer.h.{}.input_layernorm.weight", "transformer.h.{}.input_layernorm.bias"},
    {"transformer.h.{}.post_attention_layernorm.weight", "transformer.h.{}.post_attention_layernorm.bias"}};
constexpr Names kTwoNormNames{{"transformer.h.{}.ln_attn.weight", "transformer.h.{}.ln_attn.bias"},
                              {"transformer.h.{}.ln_mlp.weight", "transformer.h.{}.ln_mlp.bias"}};

constexpr std::array<std::string_view, 1> kModelTypes{"falcon"};

/// Groups of several key-value heads, or two norms of the parallel residual, exist in the new architecture alone.
bool is_new_architecture(const ModelConfig& c) {
    const bool groups = c.key_value_heads() != 1 && c.key_value_heads() != c.num_heads;
    return groups || (c.parallel_residual && !c.shared_norm);
}

std::span<const Spelling> spellings(const ModelConfig& c) {
    return c.parallel_residual && !c.shared_norm ? kTwoNormNames.spellings : kOldNames.spellings;
}

void check(const ModelConfig& c) {
    const auto wants = [](bool holds, std::string_view field, std::string_view wanted) {
        require_of_family(holds, FamilyName::falcon, field, wanted);
    };
    wants(c.norm == Norm::layernorm, "norm", "it has layernorm");
    wants(c.norm_bias, "norm_bias", "its norms have biases");
    wants(!c.gated(), "hidden_act", "its MLP is not gated; gelu_erf and gelu_tanh are there");
    wants(c.attention_out_bias == c.qkv_bias, "attention_out_bias", "it must equal model.qkv_bias");
    wants(c.mlp_bias == c.qkv_bias, "mlp_bias", "it must equal model.qkv_bias");
    wants(c.attention_dim() == c.hidden_size, "head_dim", "it is hidden_size / num_heads; set 0");
    wants(c.clip_qkv == 0, "clip_qkv", "it has none; set 0");
    wants(c.attention_scale == 0, "attention_scale", "it is 1 / sqrt(head_dim); set 0");
    wants(c.position != Position::rope || c.rotary_pct == 1, "rotary_pct", "all dims rotate; set 1");
    wants(c.parallel_residual || !is_new_architecture(c), "num_key_value_heads",
          "groups need model.parallel_residual; set 0 or 1");
}

void read_layout(const ConfigJson& file, ModelConfig& c) {
    const bool groups = file.get_or("new_decoder_architecture", false);
    c.parallel_residual = file.get_or("parallel_attn", true);
    const auto norms = file.get_or<int64_t>("num_ln_in_parallel_attn", groups ? 2 : 1);
    if (groups) {
        c.num_key_value_heads = file.get_or("num_kv_heads", c.num_heads);
        if (!c.parallel_residual)
            throw UserError(
                fmt::format("{}: new_decoder_architecture without parallel_attn is not supported; "
                            "transformers does not run it either",
                            file.path()));
    } else {
        c.num_key_value_heads = file.get_or("multi_query", true) ? 1 : c.num_heads;  // whatever num_kv_heads says
    }
    if (norms < 1 || norms > 2 || (!groups && c.parallel_residual && norms == 2))
        throw UserError(fmt::format("{}: \"num_ln_in_parallel_attn\" {} is not supported here", file.path(), norms));
    c.shared_norm = c.parallel_residual && norms == 1;
}

void read(const ConfigJson& file, ModelConfig& c) {
    c.vocab_size = file.get<int64_t>("vocab_size");
    c.hidden_size = file.get<int64_t>(file.has("hidden_size") ? "hidden_size" : "n_embed");
    c.num_layers = file.get<int64_t>("num_hidden_layers");
    c.num_heads = file.get<int64_t>("num_attention_heads");
    c.intermediate_size = file.get_or<int64_t>("ffn_hidden_size", 0);  // 0: four times the width
    c.max_position_embeddings = file.get_or<int64_t>("max_position_embeddings", 2048);
    c.layer_norm_eps = file.get_or("layer_norm_epsilon", 1e-5);
    c.hidden_act = activation_of(file.get_or<std::string>("activation", "gelu"), file.path());
    if (c.gated()) throw UserError(fmt::format("{}: activation \"silu\" is not supported for falcon", file.path()));
    c.qkv_bias = c.attention_out_bias = c.mlp_bias = file.get_or("bias", false);
    c.tie_word_embeddings = file.get_or("tie_word_embeddings", true);
    c.rotary_pct = 1.0;
    file.require("alibi", false, "Falcon with ALiBi is not supported");
    read_layout(file, c);
    read_rope(file, {}, c);
}

nlohmann::ordered_json write(const ModelConfig& c) {
    const bool groups = is_new_architecture(c);
    nlohmann::ordered_json out;
    out["architectures"] = {"FalconForCausalLM"};
    out["model_type"] = "falcon";
    out["vocab_size"] = c.vocab_size;
    out["hidden_size"] = c.hidden_size;
    out["num_hidden_layers"] = c.num_layers;
    out["num_attention_heads"] = c.num_heads;
    out["ffn_hidden_size"] = c.feed_forward_dim();
    out["activation"] = name_of(c.hidden_act);
    out["max_position_embeddings"] = c.max_position_embeddings;
    out["layer_norm_epsilon"] = c.layer_norm_eps;
    out["new_decoder_architecture"] = groups;
    out["multi_query"] = c.key_value_heads() == 1;
    out["num_kv_heads"] = c.key_value_heads();
    out["num_ln_in_parallel_attn"] = groups ? nlohmann::ordered_json(c.shared_norm ? 1 : 2) : nlohmann::ordered_json();
    out["parallel_attn"] = c.parallel_residual;
    out["bias"] = c.qkv_bias;
    out["alibi"] = false;
    out["rope_theta"] = c.rotary_base;
    out["rope_scaling"] = rope_scaling_json(c);
    out["tie_word_embeddings"] = c.tie_word_embeddings;
    out["attention_dropout"] = 0.0;
    out["hidden_dropout"] = 0.0;
    return out;
}

}  // namespace

const Family kFalcon{
    .name = FamilyName::falcon,
    .model_types = kModelTypes,
    .qkv_layout = ops::QkvLayout::grouped,
    .position = Position::rope,
    .spellings = spellings,
    .check = check,
    .read = read,
    .write = write,
};

}  // namespace ballast::model
