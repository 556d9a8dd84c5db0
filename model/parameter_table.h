// The one table of parameters. It drives allocation, initialisation, weight decay, optimiser state, checkpoints,
// Hugging Face names and the gradient tests; nothing else in the project lists parameters.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops.h"
#include "model/config.h"

namespace ballast::model {

/// The role of a parameter. A model has either query_key_value or separate query, key and value, as in its family's
/// files. A gated MLP has a gate.
enum class Role {
    embed_in,
    norm1_weight,  // before attention
    norm1_bias,
    norm2_weight,  // before the MLP
    norm2_bias,
    query_key_value_weight,
    query_weight,
    key_weight,
    value_weight,
    query_key_value_bias,
    query_bias,
    key_bias,
    value_bias,
    attention_dense_weight,
    attention_dense_bias,
    attention_sinks,
    attention_gate_weight,
    mlp_gate_weight,
    mlp_up_weight,
    mlp_gate_bias,
    mlp_up_bias,
    mlp_down_weight,
    mlp_down_bias,
    final_norm_weight,
    final_norm_bias,
    embed_out,
};

enum class Init {
    zero,
    one,
    small,  // N(0, 2 / (5 C)): small_init of GPT-NeoX (Nguyen & Salazar 2019)
    wang,   // N(0, (2 / (L sqrt C))^2): wang_init of GPT-NeoX
};

struct ParameterRow {
    std::string name;  // as in the family's Hugging Face checkpoints (model/family.h)
    std::vector<int64_t> shape;
    Init init = Init::zero;
    bool decay = false;  // matrices and embeddings decay; norms, biases and sink logits do not
    int64_t layer = -1;  // -1: belongs to no layer
    Role role = Role::embed_in;
    int64_t offset = 0;  // in the flat arrays, in elements
    int64_t count = 0;
    bool may_narrow = false;  // a matrix that products read: for inference it may be stored in fewer bits
};

/// The part of the backward pass that finishes a parameter's gradient. First num_layers: the head (the final norm and
/// the head's own matrix). Then the layers, from last to first. Last -1: the embedding, which may also be the head.
int64_t backward_part(const ParameterRow& row, int64_t num_layers);

struct Spelling;

class ParameterTable {
  public:
    explicit ParameterTable(const ModelConfig& config);

    const std::vector<ParameterRow>& rows() const { return rows_; }
    /// The elements of the flat arrays. Every parameter starts on a 64-byte boundary of f32, so this is slightly more
    /// than num_parameters.
    int64_t flat_size() const { return flat_size_; }
    /// `count` rounded up to such a boundary.
    static int64_t padded(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }
    /// Parameters of the model, without padding.
    int64_t num_parameters() const;
    int64_t num_parameters(Role role) const;

    const ParameterRow& row(Role role, int64_t layer = -1) const;
    /// The layer's rows with these roles as one matrix or vector; they must follow one another in the flat arrays
    /// (queries, keys and values; gates and ups). Empty when the layer has none of them.
    std::optional<ParameterRow> joined(std::initializer_list<Role> roles, int64_t layer) const;
    bool has(Role role, int64_t layer = -1) const { return find(role, layer) != nullptr; }
    /// The row with this name, or with this role; null when there is none.
    const ParameterRow* find(std::string_view name) const;
    const ParameterRow* find(Role role, int64_t layer = -1) const;

    /// The standard deviation of a row's initial normal distribution; 0 for constants.
    double init_std(const ParameterRow& row) const;
    /// Offsets and decay flags in the form that the optimiser's ops take, in table order.
    std::vector<ops::ParameterSpan> spans() const;

  private:
    static constexpr int64_t kAlignment = 16;
    /// Appends the row of a parameter, if the model `has` it.
    void add(bool has, Role role, std::vector<int64_t> shape, Init init, int64_t layer = -1);
    void add_layer(const ModelConfig& config, int64_t layer);

    std::span<const Spelling> spellings_;
    int64_t hidden_size_;
    int64_t num_layers_;
    bool tied_;
    int64_t flat_size_ = 0;
    std::vector<ParameterRow> rows_;
};

}  // namespace ballast::model
