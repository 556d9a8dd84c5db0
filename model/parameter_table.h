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

/// What a parameter is for. A model has query_key_value or query, key and value apart, as its family's files do; its
/// MLP has a gate when it is gated.
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
    bool may_narrow = false;  // a matrix that products read: for reading alone it may be held in fewer bits
};

/// When a backward pass has finished a parameter's gradient: num_layers, first, with the head (the final norm, and the
/// head's own matrix); its layer, from last to first; -1 at the end with the embedding, which may be the head too.
int64_t backward_part(const ParameterRow& row, int64_t num_layers);

struct Spelling;

class ParameterTable {
  public:
    explicit ParameterTable(const ModelConfig& config);

    const std::vector<ParameterRow>& rows() const { return rows_; }
    /// Elements of the flat arrays: every parameter starts on a 64-byte boundary of f32, so this is a little more than
    /// num_parameters.
    int64_t flat_size() const { return flat_size_; }
    /// `count` elements with what follows them up to such a boundary.
    static int64_t padded(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }
    /// Parameters of the model, without padding.
    int64_t num_parameters() const;
    int64_t num_parameters(Role role) const;

    const ParameterRow& row(Role role, int64_t layer = -1) const;
    /// Those of `roles` that the layer has, which follow one another in the flat arrays, as one matrix or vector:
    /// queries, keys and values; gates and ups. None when it has none of them.
    std::optional<ParameterRow> joined(std::initializer_list<Role> roles, int64_t layer) const;
    bool has(Role role, int64_t layer = -1) const { return find(role, layer) != nullptr; }
    /// Row of this name, or of this role, or null.
    const ParameterRow* find(std::string_view name) const;
    const ParameterRow* find(Role role, int64_t layer = -1) const;

    /// Standard deviation of a row's initial normal distribution; 0 for constants.
    double init_std(const ParameterRow& row) const;
    /// Places and decay flags in the form the optimiser's ops take, in table order.
    std::vector<ops::ParameterSpan> spans() const;

  private:
    static constexpr int64_t kAlignment = 16;
    /// The next row, of a parameter that the model `has`.
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
