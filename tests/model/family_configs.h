// A small model of every family and of every way in which they differ.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/model/model_fixture.h"

namespace ballast::test {

/// Llama: 4 heads of 8 dims in 2 groups, wider than the residual stream.
inline model::ModelConfig tiny_llama() {
    auto c = tiny_config();
    c.family = model::FamilyName::llama;
    c.num_heads = 4;
    c.num_key_value_heads = 2;
    c.dims_per_head = 8;
    c.norm = model::Norm::rmsnorm;
    c.norm_bias = c.qkv_bias = c.attention_out_bias = c.mlp_bias = false;
    c.hidden_act = model::Activation::swiglu;
    c.parallel_residual = false;
    c.rotary_pct = 1;
    return c;
}

/// A small Llama of sink logits for texts of 256 positions, rotary on half of its dims or with ALiBi.
inline model::ModelConfig llama_with(model::Position position, std::vector<int64_t> attention_span) {
    auto config = tiny_llama();
    config.position = position;
    config.rotary_pct = position == model::Position::rope ? 0.5 : 0;
    config.max_position_embeddings = 256;
    config.normaliser = Normaliser::sink_logit;
    config.attention_span = std::move(attention_span);
    return config;
}

inline model::ModelConfig tiny_mpt() {
    auto c = tiny_config();
    c.family = model::FamilyName::mpt;
    c.norm_bias = c.qkv_bias = c.attention_out_bias = c.mlp_bias = false;
    c.hidden_act = model::Activation::gelu_erf;
    c.intermediate_size = 0;
    c.parallel_residual = false;
    c.tie_word_embeddings = true;
    c.position = model::Position::alibi;
    return c;
}

/// Falcon-7B: one key-value head, one norm.
inline model::ModelConfig tiny_falcon() {
    auto c = tiny_config();
    c.family = model::FamilyName::falcon;
    c.num_heads = 4;
    c.num_key_value_heads = 1;
    c.qkv_bias = c.attention_out_bias = c.mlp_bias = false;
    c.hidden_act = model::Activation::gelu_erf;
    c.shared_norm = true;
    c.tie_word_embeddings = true;
    c.rotary_pct = 1;
    return c;
}

struct NamedConfig {
    std::string name;
    model::ModelConfig config;
};

inline std::vector<NamedConfig> family_configs() {
    std::vector<NamedConfig> out;
    const auto add = [&](std::string name, model::ModelConfig config, auto&& change) {
        change(config);
        config.validate();
        out.push_back({std::move(name), std::move(config)});
    };
    const auto as_it_is = [](auto&) {};
    add("llama", tiny_llama(), as_it_is);
    add("llama with biases", tiny_llama(), [](auto& c) {
        c.qkv_bias = c.attention_out_bias = c.mlp_bias = true;
        c.intermediate_size = 32;
    });
    add("llama, yarn", tiny_llama(), [](auto& c) {
        c.rope_scaling.kind = model::RopeScalingKind::yarn;
        c.rope_scaling.factor = 4;
        c.rope_scaling.original_max_position_embeddings = 16;
    });
    add("llama, llama3", tiny_llama(), [](auto& c) {
        c.rope_scaling.kind = model::RopeScalingKind::llama3;
        c.rope_scaling.factor = 4;
        c.rope_scaling.original_max_position_embeddings = 16;
    });
    add("llama, linear", tiny_llama(), [](auto& c) {
        c.rope_scaling.kind = model::RopeScalingKind::linear;
        c.rope_scaling.factor = 2;
    });
    add("llama, dynamic", tiny_llama(), [](auto& c) {
        c.rope_scaling.kind = model::RopeScalingKind::dynamic;
        c.rope_scaling.factor = 2;
        c.max_position_embeddings = 6;  // fewer than the tests' positions
    });
    add("mistral", tiny_llama(), [](auto& c) { c.attention_span = {4}; });
    add("mistral, off by one", tiny_llama(), [](auto& c) {
        c.attention_span = {4};
        c.normaliser = Normaliser::off_by_one;
    });
    add("mistral, sink tokens", tiny_llama(), [](auto& c) {
        c.attention_span = {4};
        c.num_sink_tokens = 2;
        c.sink_token_id = c.vocab_size - 2;
    });
    add("llama with biases, windows", tiny_llama(), [](auto& c) {
        c.qkv_bias = c.attention_out_bias = c.mlp_bias = true;
        c.intermediate_size = 32;
        c.attention_span = {4};
    });
    add("llama, sink logits", tiny_llama(), [](auto& c) { c.normaliser = Normaliser::sink_logit; });
    add("llama, off by one", tiny_llama(), [](auto& c) { c.normaliser = Normaliser::off_by_one; });
    add("llama, sink tokens", tiny_llama(), [](auto& c) {
        c.num_sink_tokens = 2;
        c.sink_token_id = c.vocab_size - 2;
    });
    add("qwen2", tiny_llama(), [](auto& c) {
        c.qkv_bias = true;
        c.attention_span = {0, 3};
    });
    add("qwen2, sink logits", tiny_llama(), [](auto& c) {
        c.qkv_bias = true;
        c.attention_span = {3, 0};
        c.normaliser = Normaliser::sink_logit;
    });
    add("mpt", tiny_mpt(), as_it_is);
    add("mpt, clipped", tiny_mpt(), [](auto& c) {
        c.clip_qkv = 0.5;
        c.alibi_bias_max = 7.5;
        c.attention_scale = 0.25;
    });
    add("falcon 7b", tiny_falcon(), as_it_is);
    add("falcon 40b", tiny_falcon(), [](auto& c) {
        c.num_key_value_heads = 2;
        c.shared_norm = false;
    });
    add("falcon, groups, one norm", tiny_falcon(), [](auto& c) { c.num_key_value_heads = 2; });
    add("falcon, sequential, biases", tiny_falcon(), [](auto& c) {
        c.parallel_residual = c.shared_norm = false;
        c.qkv_bias = c.attention_out_bias = c.mlp_bias = true;
    });
    add("llama, gated heads", tiny_llama(), [](auto& c) { c.gate = model::Gate::headwise; });
    add("gpt_neox, gated heads", tiny_config(), [](auto& c) { c.gate = model::Gate::headwise; });
    add("falcon, gated heads", tiny_falcon(), [](auto& c) { c.gate = model::Gate::headwise; });
    add("gpt_neox without attention biases, windows", tiny_config(), [](auto& c) {
        c.qkv_bias = c.attention_out_bias = false;
        c.attention_span = {3, 0};
        c.normaliser = Normaliser::sink_logit;
        c.num_sink_tokens = 2;
        c.sink_token_id = 20;
    });
    return out;
}

}  // namespace ballast::test
