#include "model/parameter_table.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "model/family.h"

namespace ballast::model {
namespace {

/// Which matrices weights for reading may hold in fewer bits (Weights): those that products read in full for every token,
/// the head among them, where it is tied the embeddings, too. Of an untied embedding a token reads one row, and a gate's
/// few outputs decide over whole heads.
bool may_be_narrow(Role role, const std::vector<int64_t>& shape, bool tied) {
    return shape.size() > 1 && role != Role::attention_gate_weight && (role != Role::embed_in || tied);
}

std::string spelt(std::span<const Spelling> spellings, Role role, int64_t layer) {
    const auto found = std::find_if(spellings.begin(), spellings.end(), [&](auto& s) { return s.role == role; });
    require(found != spellings.end(), "the family has no name for a parameter of its models");
    return layer < 0 ? std::string(found->name) : fmt::format(fmt::runtime(found->name), layer);
}

bool has_name(std::span<const Spelling> spellings, Role role) {
    return std::any_of(spellings.begin(), spellings.end(), [&](auto& s) { return s.role == role; });
}

}  // namespace

ParameterTable::ParameterTable(const ModelConfig& config)
    : spellings_(family_of(config).spellings(config)),
      hidden_size_(config.hidden_size),
      num_layers_(config.num_layers),
      tied_(config.tie_word_embeddings) {
    const int64_t C = config.hidden_size, V = config.vocab_size;
    add(true, Role::embed_in, {V, C}, Init::small);
    for (int64_t l = 0; l < config.num_layers; ++l) add_layer(config, l);
    add(true, Role::final_norm_weight, {C}, Init::one);
    add(config.norm_bias, Role::final_norm_bias, {C}, Init::zero);
    add(!config.tie_word_embeddings, Role::embed_out, {V, C}, Init::small);
}

void ParameterTable::add_layer(const ModelConfig& config, int64_t l) {
    const int64_t C = config.hidden_size, F = config.feed_forward_dim(), M = config.qkv_dim(),
                  HD = config.attention_dim(), GD = config.key_value_heads() * config.head_dim();
    const bool second_norm = !config.shared_norm, together = has_name(spellings_, Role::query_key_value_weight),
               apart = !together, gated = config.gated();

    add(true, Role::norm1_weight, {C}, Init::one, l);
    add(config.norm_bias, Role::norm1_bias, {C}, Init::zero, l);
    add(second_norm, Role::norm2_weight, {C}, Init::one, l);
    add(second_norm && config.norm_bias, Role::norm2_bias, {C}, Init::zero, l);

    add(together, Role::query_key_value_weight, {M, C}, Init::small, l);
    add(apart, Role::query_weight, {HD, C}, Init::small, l);
    add(apart, Role::key_weight, {GD, C}, Init::small, l);
    add(apart, Role::value_weight, {GD, C}, Init::small, l);
    add(together && config.qkv_bias, Role::query_key_value_bias, {M}, Init::zero, l);
    add(apart && config.qkv_bias, Role::query_bias, {HD}, Init::zero, l);
    add(apart && config.qkv_bias, Role::key_bias, {GD}, Init::zero, l);
    add(apart && config.qkv_bias, Role::value_bias, {GD}, Init::zero, l);

    add(true, Role::attention_dense_weight, {C, HD}, Init::wang, l);
    add(config.attention_out_bias, Role::attention_dense_bias, {C}, Init::zero, l);
    add(has_learned_sink_logit(config.normaliser), Role::attention_sinks, {config.num_heads}, Init::zero, l);

    add(config.gate == Gate::headwise, Role::attention_gate_weight, {config.num_heads, C}, Init::small, l);

    add(gated, Role::mlp_gate_weight, {F, C}, Init::small, l);
    add(true, Role::mlp_up_weight, {F, C}, Init::small, l);
    add(gated && config.mlp_bias, Role::mlp_gate_bias, {F}, Init::zero, l);
    add(config.mlp_bias, Role::mlp_up_bias, {F}, Init::zero, l);
    add(true, Role::mlp_down_weight, {C, F}, Init::wang, l);
    add(config.mlp_bias, Role::mlp_down_bias, {C}, Init::zero, l);
}

void ParameterTable::add(bool has, Role role, std::vector<int64_t> shape, Init init, int64_t layer) {
    if (!has) return;
    const bool decay = shape.size() > 1;
    const bool may_narrow = may_be_narrow(role, shape, tied_);
    ParameterRow row{spelt(spellings_, role, layer), std::move(shape), init, decay, layer, role, flat_size_, 1, may_narrow};
    for (int64_t extent : row.shape) row.count *= extent;
    flat_size_ += padded(row.count);
    rows_.push_back(std::move(row));
}

std::optional<ParameterRow> ParameterTable::joined(std::initializer_list<Role> roles, int64_t layer) const {
    std::optional<ParameterRow> out;
    for (const Role role : roles) {
        const ParameterRow* part = find(role, layer);
        if (part == nullptr) continue;
        if (!out) {
            out = *part;
            continue;
        }
        require(part->offset == out->offset + out->count, "parts of one matrix lie apart");  // Family::check
        out->shape.front() += part->shape.front();
        out->count += part->count;
    }
    return out;
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

int64_t backward_part(const ParameterRow& row, int64_t num_layers) {
    if (row.layer >= 0) return row.layer;
    return row.role == Role::embed_in ? -1 : num_layers;
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
