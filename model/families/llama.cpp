// Llama 2 and 3, Vicuna, SmolLM2, and the shapes of Mistral (windows) and Qwen2 (QKV biases), as in transformers'
// modeling_llama, modeling_mistral and modeling_qwen2.
#include <algorithm>
#include <array>
#include <optional>

#include "model/families/families.h"

namespace ballast::model {
namespace {

using enum Role;

constexpr std::array kSpellings{
    Spelling{embed_in, "model.embed_tokens.weight"},
    Spelling{norm1_weight, "model.layers.{}.input_layernorm.weight"},
    Spelling{norm2_weight, "model.layers.{}.post_attention_layernorm.weight"},
    Spelling{query_weight, "model.layers.{}.self_attn.q_proj.weight"},
    Spelling{key_weight, "model.layers.{}.self_attn.k_proj.weight"},
    Spelling{value_weight, "model.layers.{}.self_attn.v_proj.weight"},
    Spelling{query_bias, "model.layers.{}.self_attn.q_proj.bias"},
    Spelling{key_bias, "model.layers.{}.self_attn.k_proj.bias"},
    Spelling{value_bias, "model.layers.{}.self_attn.v_proj.bias"},
    Spelling{attention_dense_weight, "model.layers.{}.self_attn.o_proj.weight"},
    Spelling{attention_dense_bias, "model.layers.{}.self_attn.o_proj.bias"},
    Spelling{attention_sinks, "model.layers.{}.self_attn.sinks"},
    Spelling{attention_gate_weight, "model.layers.{}.self_attn.gate.weight"},
    Spelling{mlp_gate_weight, "model.layers.{}.mlp.gate_proj.weight"},
    Spelling{mlp_up_weight, "model.layers.{}.mlp.up_proj.weight"},
    Spelling{mlp_gate_bias, "model.layers.{}.mlp.gate_proj.bias"},
    Spelling{mlp_up_bias, "model.layers.{}.mlp.up_proj.bias"},
    Spelling{mlp_down_weight, "model.layers.{}.mlp.down_proj.weight"},
    Spelling{mlp_down_bias, "model.layers.{}.mlp.down_proj.bias"},
    Spelling{final_norm_weight, "model.norm.weight"},
    Spelling{embed_out, "lm_head.weight"},
};

constexpr std::array<std::string_view, 3> kModelTypes{"llama", "mistral", "qwen2"};

/// Qwen2 has biases on queries, keys and values alone.
bool is_qwen2(const ModelConfig& c) { return c.qkv_bias && !c.attention_out_bias; }

void check(const ModelConfig& c) {
    const auto wants = [](bool holds, std::string_view field, std::string_view wanted) {
        require_of_family(holds, FamilyName::llama, field, wanted);
    };
    wants(c.norm == Norm::rmsnorm, "norm", "it has rmsnorm");
    wants(!c.norm_bias, "norm_bias", "its norms have none; set false");
    wants(!c.parallel_residual, "parallel_residual", "attention and MLP follow one another; set false");
    wants(c.gated(), "hidden_act", "its MLP is gated; set swiglu");
    wants(c.qkv_bias || !c.attention_out_bias, "attention_out_bias", "it needs model.qkv_bias");
    wants(!is_qwen2(c) || !c.mlp_bias, "mlp_bias", "with model.qkv_bias alone (Qwen2) there is none; set false");
    wants(c.clip_qkv == 0, "clip_qkv", "it has none; set 0");
    wants(c.attention_scale == 0, "attention_scale", "it is 1 / sqrt(head_dim); set 0");
    wants(c.position != Position::rope || c.rotary_pct == 1, "rotary_pct", "all dims rotate; set 1");
    // Queries, keys and values are multiplied as one matrix, so there may be no padding between them in the flat arrays
    // (ParameterTable); the same holds for gates and ups.
    const int64_t Q = c.attention_dim(), K = c.key_value_heads() * c.head_dim(), F = c.feed_forward_dim();
    const auto whole = [&](int64_t rows, bool bias) {
        return rows * c.hidden_size % 16 == 0 && (!bias || rows % 16 == 0);
    };
    wants(whole(Q, c.qkv_bias) && whole(K, c.qkv_bias), "head_dim",
          "heads * head_dim * hidden_size must be a multiple of 16, and with biases heads * head_dim");
    wants(whole(F, c.mlp_bias), "intermediate_size",
          "times hidden_size it must be a multiple of 16, and with biases it by itself");
}

/// W of a sliding window: the query and W - 1 positions before it.
int64_t span_of_window(const ConfigJson& file, int64_t window) {
    if (window < 2)
        throw UserError(fmt::format("{}: \"sliding_window\" is {}; at least 2 is supported", file.path(), window));
    return window - 1;
}

void read_windows(const ConfigJson& file, ModelConfig& c) {
    constexpr int64_t kDefaultWindow = 4096;  // transformers' where the key is absent; null says none
    const auto type = file.get<std::string>("model_type");
    const auto keys = file.keys();
    const bool absent = std::find(keys.begin(), keys.end(), "sliding_window") == keys.end();
    const bool wanted = type == "qwen2" ? file.get_or("use_sliding_window", false) : type == "mistral";
    if (!wanted || (!absent && !file.has("sliding_window"))) return;
    const int64_t span = span_of_window(file, file.get_or("sliding_window", kDefaultWindow));
    constexpr int64_t kMostLayers = 10000;  // as ModelConfig's, whose bounds are checked when all keys have been read
    if (c.num_layers < 1 || c.num_layers > kMostLayers)
        throw UserError(fmt::format("{}: \"num_hidden_layers\" is {}; 1 to {} are supported", file.path(), c.num_layers,
                                    kMostLayers));
    c.attention_span.assign(static_cast<size_t>(c.num_layers), span);
    if (file.has("layer_types")) {
        const auto types = file.get<std::vector<std::string>>("layer_types");
        if (types.size() != c.attention_span.size())
            throw UserError(
                fmt::format("{}: \"layer_types\" names {} layers of {}", file.path(), types.size(), c.num_layers));
        for (size_t l = 0; l < types.size(); ++l) {
            if (types[l] == "full_attention")
                c.attention_span[l] = 0;
            else if (types[l] != "sliding_attention")
                throw UserError(
                    fmt::format("{}: layer type \"{}\" is not supported; full_attention and "
                                "sliding_attention are",
                                file.path(), types[l]));
        }
    } else if (type == "qwen2") {
        const auto full = std::min(file.get_or<int64_t>("max_window_layers", 28), c.num_layers);
        std::fill_n(c.attention_span.begin(), std::max<int64_t>(full, 0), 0);
    }
    if (std::equal(c.attention_span.begin() + 1, c.attention_span.end(), c.attention_span.begin()))
        c.attention_span.resize(1);
}

void read(const ConfigJson& file, ModelConfig& c) {
    const auto type = file.get<std::string>("model_type");
    c.vocab_size = file.get_or<int64_t>("vocab_size", 32000);
    c.hidden_size = file.get_or<int64_t>("hidden_size", 4096);
    c.num_layers = file.get_or<int64_t>("num_hidden_layers", 32);
    c.num_heads = file.get_or<int64_t>("num_attention_heads", 32);
    c.num_key_value_heads = file.get_or<int64_t>("num_key_value_heads", 0);
    c.dims_per_head = file.get_or<int64_t>("head_dim", 0);
    c.intermediate_size = file.get_or<int64_t>("intermediate_size", 11008);
    c.max_position_embeddings = file.get_or<int64_t>("max_position_embeddings", 2048);
    c.norm = Norm::rmsnorm;
    c.norm_bias = false;
    c.layer_norm_eps = file.get_or("rms_norm_eps", 1e-6);
    c.hidden_act = activation_of(file.get_or<std::string>("hidden_act", "silu"), file.path());
    if (!c.gated())
        throw UserError(fmt::format("{}: a gated MLP with another activation than silu is not supported", file.path()));
    const bool attention_bias = file.get_or("attention_bias", false);
    c.qkv_bias = attention_bias || type == "qwen2";
    c.attention_out_bias = attention_bias;
    c.mlp_bias = file.get_or("mlp_bias", false);
    c.parallel_residual = false;
    c.tie_word_embeddings = file.get_or("tie_word_embeddings", false);
    c.rotary_pct = 1.0;
    read_rope(file, {}, c);
    read_windows(file, c);
}

/// What older readers of Qwen2 files go by in place of layer_types: the number of layers without a window, where all
/// others follow them. Empty: they cannot be told so.
std::optional<int64_t> full_layers_before_windows(const ModelConfig& c) {
    int64_t full = 0;
    while (full < c.num_layers && c.span_of_layer(full) == 0) ++full;
    for (int64_t l = full; l < c.num_layers; ++l)
        if (c.span_of_layer(l) == 0) return std::nullopt;
    return full;
}

nlohmann::ordered_json write(const ModelConfig& c) {
    const bool windows = std::any_of(c.attention_span.begin(), c.attention_span.end(), [](int64_t s) { return s > 0; });
    const bool is_mistral =
        windows && !c.qkv_bias && !c.mlp_bias;  // transformers' has no biases, whatever its file says
    const char* type = is_qwen2(c) ? "qwen2" : is_mistral ? "mistral" : "llama";
    nlohmann::ordered_json out;
    out["architectures"] = {is_qwen2(c) ? "Qwen2ForCausalLM" : is_mistral ? "MistralForCausalLM" : "LlamaForCausalLM"};
    out["model_type"] = type;
    out["vocab_size"] = c.vocab_size;
    out["hidden_size"] = c.hidden_size;
    out["num_hidden_layers"] = c.num_layers;
    out["num_attention_heads"] = c.num_heads;
    out["num_key_value_heads"] = c.key_value_heads();
    if (c.dims_per_head > 0) out["head_dim"] = c.head_dim();
    out["intermediate_size"] = c.feed_forward_dim();
    out["hidden_act"] = name_of(c.hidden_act);
    out["max_position_embeddings"] = c.max_position_embeddings;
    out["rms_norm_eps"] = c.layer_norm_eps;
    out["rope_theta"] = c.rotary_base;
    out["rope_scaling"] = rope_scaling_json(c);
    out["tie_word_embeddings"] = c.tie_word_embeddings;
    if (!is_qwen2(c)) {
        out["attention_bias"] = c.attention_out_bias;
        out["mlp_bias"] = c.mlp_bias;
    }
    if (is_qwen2(c)) out["use_sliding_window"] = windows;
    if (windows) {
        const auto span = *std::max_element(c.attention_span.begin(), c.attention_span.end());
        out["sliding_window"] = span + 1;
        if (is_qwen2(c)) {
            for (int64_t l = 0; l < c.num_layers; ++l)
                out["layer_types"].push_back(c.span_of_layer(l) > 0 ? "sliding_attention" : "full_attention");
            if (const auto full = full_layers_before_windows(c)) out["max_window_layers"] = *full;
        }
    }
    out["attention_dropout"] = 0.0;
    return out;
}

}  // namespace

const Family kLlama{
    .name = FamilyName::llama,
    .model_types = kModelTypes,
    .qkv_layout = ops::QkvLayout::concatenated,
    .position = Position::rope,
    .spellings = [](const ModelConfig&) -> std::span<const Spelling> { return kSpellings; },
    .check = check,
    .read = read,
    .write = write,
};

}  // namespace ballast::model
