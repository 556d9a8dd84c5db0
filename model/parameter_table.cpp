#include "model/parameter_table.h"

#include <cmath>
#include <fmt/format.h>

namespace ballast::model {

ParameterTable::ParameterTable(const ModelConfig& config)
    : hidden_size_(config.hidden_size), num_layers_(config.num_layers) {
    const int64_t C = config.hidden_size, F = config.feed_forward_dim(), V = config.vocab_size;
    constexpr bool kDecay = true, kNoDecay = false;

    add("gpt_neox.embed_in.weight", {V, C}, Init::small, kDecay, Role::embed_in);
    for (int64_t l = 0; l < config.num_layers; ++l) {
        const auto in_layer = [l](std::string_view rest) { return fmt::format("gpt_neox.layers.{}.{}", l, rest); };
        add(in_layer("input_layernorm.weight"), {C}, Init::one, kNoDecay, Role::input_layernorm_weight, l);
        add(in_layer("input_layernorm.bias"), {C}, Init::zero, kNoDecay, Role::input_layernorm_bias, l);
        add(in_layer("post_attention_layernorm.weight"), {C}, Init::one, kNoDecay,
            Role::post_attention_layernorm_weight, l);
        add(in_layer("post_attention_layernorm.bias"), {C}, Init::zero, kNoDecay, Role::post_attention_layernorm_bias,
            l);
        add(in_layer("attention.query_key_value.weight"), {3 * C, C}, Init::small, kDecay, Role::query_key_value_weight,
            l);
        add(in_layer("attention.query_key_value.bias"), {3 * C}, Init::zero, kNoDecay, Role::query_key_value_bias, l);
        add(in_layer("attention.dense.weight"), {C, C}, Init::wang, kDecay, Role::attention_dense_weight, l);
        add(in_layer("attention.dense.bias"), {C}, Init::zero, kNoDecay, Role::attention_dense_bias, l);
        if (has_learned_sink_logit(config.normaliser))
            add(in_layer("attention.sinks"), {config.num_heads}, Init::zero, kNoDecay, Role::attention_sinks, l);
        add(in_layer("mlp.dense_h_to_4h.weight"), {F, C}, Init::small, kDecay, Role::mlp_up_weight, l);
        add(in_layer("mlp.dense_h_to_4h.bias"), {F}, Init::zero, kNoDecay, Role::mlp_up_bias, l);
        add(in_layer("mlp.dense_4h_to_h.weight"), {C, F}, Init::wang, kDecay, Role::mlp_down_weight, l);
        add(in_layer("mlp.dense_4h_to_h.bias"), {C}, Init::zero, kNoDecay, Role::mlp_down_bias, l);
    }
    add("gpt_neox.final_layer_norm.weight", {C}, Init::one, kNoDecay, Role::final_layernorm_weight);
    add("gpt_neox.final_layer_norm.bias", {C}, Init::zero, kNoDecay, Role::final_layernorm_bias);
    if (!config.tie_word_embeddings) add("embed_out.weight", {V, C}, Init::small, kDecay, Role::embed_out);
}

void ParameterTable::add(std::string name, std::vector<int64_t> shape, Init init, bool decay, Role role,
                         int64_t layer) {
    constexpr int64_t kAlignment = 16;  // 64 bytes of f32
    ParameterRow row{std::move(name), std::move(shape), init, decay, layer, role, flat_size_, 1};
    for (int64_t extent : row.shape) row.count *= extent;
    flat_size_ += (row.count + kAlignment - 1) / kAlignment * kAlignment;
    rows_.push_back(std::move(row));
}

int64_t ParameterTable::num_parameters() const {
    int64_t n = 0;
    for (const auto& row : rows_) n += row.count;
    return n;
}

int64_t ParameterTable::num_parameters(Role role) const {
    int64_t n = 0;
    for (const auto& row : rows_)
        if (row.role == role) n += row.count;
    return n;
}

const ParameterRow* ParameterTable::find(Role role, int64_t layer) const {
    for (const auto& row : rows_)
        if (row.role == role && row.layer == layer) return &row;
    return nullptr;
}

const ParameterRow* ParameterTable::find(std::string_view name) const {
    for (const auto& row : rows_)
        if (row.name == name) return &row;
    return nullptr;
}

const ParameterRow& ParameterTable::row(Role role, int64_t layer) const {
    const ParameterRow* found = find(role, layer);
    require(found != nullptr, "the model has no such parameter");
    return *found;
}

double ParameterTable::init_std(const ParameterRow& row) const {
    const auto C = static_cast<double>(hidden_size_);
    switch (row.init) {
        case Init::small: return std::sqrt(2.0 / (5.0 * C));
        case Init::wang: return 2.0 / (static_cast<double>(num_layers_) * std::sqrt(C));
        case Init::zero:
        case Init::one: return 0.0;
    }
    return 0.0;
}

std::vector<ops::ParameterSpan> ParameterTable::spans() const {
    std::vector<ops::ParameterSpan> out;
    for (const auto& row : rows_) out.push_back({row.offset, row.count, row.decay});
    return out;
}

}  // namespace ballast::model
