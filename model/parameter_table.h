// The one table of parameters. It drives allocation, initialisation, weight decay, optimiser state, checkpoints,
// Hugging Face names and the gradient tests; nothing else in the project lists parameters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops.h"
#include "model/config.h"

namespace ballast::model {

enum class Role {
    embed_in,
    input_layernorm_weight,
    input_layernorm_bias,
    post_attention_layernorm_weight,
    post_attention_layernorm_bias,
    query_key_value_weight,
    query_key_value_bias,
    attention_dense_weight,
    attention_dense_bias,
    attention_sinks,
    mlp_up_weight,
    mlp_up_bias,
    mlp_down_weight,
    mlp_down_bias,
    final_layernorm_weight,
    final_layernorm_bias,
    embed_out,
};

enum class Init {
    zero,
    one,
    small,  // N(0, 2 / (5 C)): small_init of GPT-NeoX (Nguyen & Salazar 2019)
    wang,   // N(0, (2 / (L sqrt C))^2): wang_init of GPT-NeoX
};

struct ParameterRow {
    std::string name;  // as in a Hugging Face GPT-NeoX checkpoint; attention.sinks as in gpt-oss
    std::vector<int64_t> shape;
    Init init = Init::zero;
    bool decay = false;  // matrices and embeddings decay; norms, biases and sink logits do not
    int64_t layer = -1;  // -1: belongs to no layer
    Role role = Role::embed_in;
    int64_t offset = 0;  // in the flat arrays, in elements
    int64_t count = 0;
};

class ParameterTable {
  public:
    explicit ParameterTable(const ModelConfig& config);

    const std::vector<ParameterRow>& rows() const { return rows_; }
    /// Elements of the flat arrays: every parameter starts on a 64-byte boundary of f32, so this is a little more than
    /// num_parameters.
    int64_t flat_size() const { return flat_size_; }
    /// Parameters of the model, without padding.
    int64_t num_parameters() const;
    int64_t num_parameters(Role role) const;

    const ParameterRow& row(Role role, int64_t layer = -1) const;
    bool has(Role role, int64_t layer = -1) const { return find(role, layer) != nullptr; }
    /// Row of this name, or null.
    const ParameterRow* find(std::string_view name) const;

    /// Standard deviation of a row's initial normal distribution; 0 for constants.
    double init_std(const ParameterRow& row) const;
    /// Places and decay flags in the form the optimiser's ops take, in table order.
    std::vector<ops::ParameterSpan> spans() const;

  private:
    const ParameterRow* find(Role role, int64_t layer) const;
    void add(std::string name, std::vector<int64_t> shape, Init init, bool decay, Role role, int64_t layer = -1);

    int64_t hidden_size_;
    int64_t num_layers_;
    int64_t flat_size_ = 0;
    std::vector<ParameterRow> rows_;
};

}  // namespace ballast::model
