// GPT-NeoX and Pythia (EleutherAI; transformers' modeling_gpt_neox).
#include <array>

#include "model/families/families.h"

namespace ballast::model {
namespace {

using enum Role;

constexpr std::array kSpellings{
    Spelling{embed_in, "gpt_neox.embed_in.weight"},
    Spelling{norm1_weight, "gpt_neox.layers.{}.input_layernorm.weight"},
    Spelling{norm1_bias, "gpt_neox.layers.{}.input_layernorm.bias"},
    Spelling{norm2_weight, "gpt_neox.layers.{}.post_attention_layernorm.weight"},
    Spelling{norm2_bias, "gpt_neox.layers.{}.post_attention_layernorm.bias"},
    Spelling{query_key_value_weight, "gpt_neox.layers.{}.attention.query_key_value.weight"},
    Spelling{query_key_value_bias, "gpt_neox.layers.{}.attention.query_key_value.bias"},
    Spelling{attention_dense_weight, "gpt_neox.layers.{}.attention.dense.weight"},
    Spelling{attention_dense_bias, "gpt_neox.layers.{}.attention.dense.bias"},
    Spelling{attention_sinks, "gpt_neox.layers.{}.attention.sinks"},
    Spelling{attention_gate_weight, "gpt_neox.layers.{}.attention.gate.weight"},
    Spelling{mlp_up_weight, "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight"},
    Spelling{mlp_up_bias, "gpt_neox.layers.{}.mlp.dense_h_to_4h.bias"},
    Spelling{mlp_down_weight, "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight"},
    Spelling{mlp_down_bias, "gpt_neox.layers.{}.mlp.dense_4h_to_h.bias"},
    Spelling{final_norm_weight, "gpt_neox.final_layer_norm.weight"},
    Spelling{final_norm_bias, "gpt_neox.final_layer_norm.bias"},
    Spelling{embed_out, "embed_out.weight"},
};

constexpr std::array<std::string_view, 1> kModelTypes{"gpt_neox"};
constexpr RopeKeys kRopeKeys{"rotary_emb_base", "rotary_pct"};

void check(const ModelConfig& c) {
    const auto wants = [](bool holds, std::string_view field, std::string_view wanted) {
        require_of_family(holds, FamilyName::gpt_neox, field, wanted);
    };
    wants(c.norm == Norm::layernorm, "norm", "it has layernorm");
    wants(c.norm_bias, "norm_bias", "its norms have biases");
    wants(!c.shared_norm, "shared_norm", "its parallel residual has two norms");
    wants(!c.gated(), "hidden_act", "its MLP is not gated; gelu_tanh and gelu_erf are there");
    wants(c.mlp_bias, "mlp_bias", "its MLP has biases");
    wants(c.qkv_bias == c.attention_out_bias, "qkv_bias", "it must equal model.attention_out_bias");
    wants(c.key_value_heads() == c.num_heads, "num_key_value_heads", "every head has its own; set 0");
    wants(c.attention_dim() == c.hidden_size, "head_dim", "it is hidden_size / num_heads; set 0");
    wants(c.clip_qkv == 0, "clip_qkv", "it has none; set 0");
    wants(c.attention_scale == 0, "attention_scale", "it is 1 / sqrt(head_dim); set 0");
}

void read(const ConfigJson& file, ModelConfig& c) {
    c.vocab_size = file.get<int64_t>("vocab_size");
    c.hidden_size = file.get<int64_t>("hidden_size");
    c.num_layers = file.get<int64_t>("num_hidden_layers");
    c.num_heads = file.get<int64_t>("num_attention_heads");
    c.intermediate_size = file.get<int64_t>("intermediate_size");
    c.max_position_embeddings = file.get_or<int64_t>("max_position_embeddings", 2048);
    c.layer_norm_eps = file.get_or("layer_norm_eps", 1e-5);
    c.hidden_act = activation_of(file.get_or<std::string>("hidden_act", "gelu"), file.path());
    if (c.gated())
        throw UserError(
            fmt::format("{}: hidden_act \"silu\" is not supported for gpt_neox; gelu, gelu_new, gelu_fast and "
                        "gelu_pytorch_tanh are",
                        file.path()));
    c.parallel_residual = file.get_or("use_parallel_residual", true);
    c.tie_word_embeddings = file.get_or("tie_word_embeddings", false);
    c.qkv_bias = c.attention_out_bias = file.get_or("attention_bias", true);
    read_rope(file, kRopeKeys, c);
}

nlohmann::ordered_json write(const ModelConfig& c) {
    nlohmann::ordered_json out;
    out["architectures"] = {"GPTNeoXForCausalLM"};
    out["model_type"] = "gpt_neox";
    out["vocab_size"] = c.vocab_size;
    out["hidden_size"] = c.hidden_size;
    out["num_hidden_layers"] = c.num_layers;
    out["num_attention_heads"] = c.num_heads;
    out["intermediate_size"] = c.feed_forward_dim();
    out["hidden_act"] = name_of(c.hidden_act);
    out["max_position_embeddings"] = c.max_position_embeddings;
    out["rotary_pct"] = c.rotary_pct;
    out["rotary_emb_base"] = c.rotary_base;
    if (const auto scaling = rope_scaling_json(c); !scaling.is_null()) out["rope_scaling"] = scaling;
    out["layer_norm_eps"] = c.layer_norm_eps;
    out["use_parallel_residual"] = c.parallel_residual;
    out["tie_word_embeddings"] = c.tie_word_embeddings;
    out["attention_bias"] = c.qkv_bias;
    out["attention_dropout"] = 0.0;
    out["hidden_dropout"] = 0.0;
    return out;
}

}  // namespace

const Family kGptNeox{
    .name = FamilyName::gpt_neox,
    .model_types = kModelTypes,
    .qkv_layout = ops::QkvLayout::grouped,
    .position = Position::rope,
    .spellings = [](const ModelConfig&) -> std::span<const Spelling> { return kSpellings; },
    .check = check,
    .read = read,
    .write = write,
};

}  // namespace ballast::model
