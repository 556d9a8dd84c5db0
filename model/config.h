// The configuration of a model: one decoder whose flags select the published model families, plus our attention
// normalisers, sink tokens and windows.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention_variant.h"
#include "kernels/ops.h"
#include "model/rope_scaling.h"

namespace ballast {
class FieldVisitor;
}

namespace ballast::model {

/// The family whose file format a model uses: names of tensors, keys of config.json, the order of QKV (model/family.h).
enum class FamilyName { gpt_neox, llama, mpt, falcon };
/// The names in config files, in the order of the enumerators. The same holds for all arrays of names below.
inline constexpr std::array<std::string_view, 4> kFamilyNames{"gpt_neox", "llama", "mpt", "falcon"};

enum class Norm { layernorm, rmsnorm };
inline constexpr std::array<std::string_view, 2> kNormNames{"layernorm", "rmsnorm"};

/// `swiglu` is gated: down(silu(gate x) * up x); the others are down(act(up x)).
enum class Activation { gelu_tanh, gelu_erf, swiglu };
inline constexpr std::array<std::string_view, 3> kActivationNames{"gelu_tanh", "gelu_erf", "swiglu"};

enum class Position { rope, alibi, none };
inline constexpr std::array<std::string_view, 3> kPositionNames{"rope", "alibi", "none"};

/// The factor of each head's output: none, or sigmoid(x·w_h), where x is the input of attention
/// (ops::head_gate_forward).
enum class Gate { none, headwise };
inline constexpr std::array<std::string_view, 2> kGateNames{"none", "headwise"};

struct ModelConfig {
    FamilyName family = FamilyName::gpt_neox;
    int64_t vocab_size = 50304;  // rows of the embedding, padding and sink tokens included
    int64_t hidden_size = 768;
    int64_t num_layers = 12;
    int64_t num_heads = 12;
    int64_t num_key_value_heads = 0;  // 0: num_heads
    int64_t dims_per_head = 0;        // 0: hidden_size / num_heads
    int64_t intermediate_size = 0;    // 0: 4 * hidden_size
    int64_t max_position_embeddings = 2048;
    Norm norm = Norm::layernorm;
    bool norm_bias = true;
    bool shared_norm = false;  // one norm for attention and MLP; parallel residual only
    double layer_norm_eps = 1e-5;
    Activation hidden_act = Activation::gelu_tanh;
    bool qkv_bias = true;
    bool attention_out_bias = true;
    bool mlp_bias = true;
    bool parallel_residual = true;
    bool tie_word_embeddings = false;
    double clip_qkv = 0;         // queries, keys and values are clamped to [-clip_qkv, clip_qkv]; 0: no clamping
    double attention_scale = 0;  // multiplies q·k; 0: 1 / sqrt(dims of a head)
    Position position = Position::rope;
    double rotary_pct = 0.25;
    double rotary_base = 10000.0;
    RopeScaling rope_scaling;
    double alibi_bias_max = 8.0;
    std::vector<int64_t> attention_span{0};  // per layer, repeating; how many earlier positions a query sees; 0: all
    Normaliser normaliser = Normaliser::softmax;
    Gate gate = Gate::none;
    int64_t num_sink_tokens = 0;
    int64_t sink_token_id = -1;  // first of num_sink_tokens consecutive ids; -1: right after the tokenizer's ids

    /// Lists every field once, for parsing, help, printing and saving.
    void visit(FieldVisitor& visitor);
    /// Throws UserError that names the first invalid field and the valid values.
    void validate() const;

    int64_t head_dim() const { return dims_per_head > 0 ? dims_per_head : hidden_size / num_heads; }
    int64_t key_value_heads() const { return num_key_value_heads > 0 ? num_key_value_heads : num_heads; }
    /// The width of all heads together: the input of the output projection. hidden_size, unless dims_per_head is set.
    int64_t attention_dim() const { return num_heads * head_dim(); }
    /// The width of queries, keys and values together.
    int64_t qkv_dim() const { return (num_heads + 2 * key_value_heads()) * head_dim(); }
    int64_t feed_forward_dim() const { return intermediate_size > 0 ? intermediate_size : 4 * hidden_size; }
    bool gated() const { return hidden_act == Activation::swiglu; }
    /// The outputs of the MLP's first product; with a gated MLP these are gates and ups.
    int64_t mlp_up_dim() const { return (gated() ? 2 : 1) * feed_forward_dim(); }
    /// The rotated dims of a head: int(head_dim * rotary_pct); 0 unless position = rope.
    int64_t rotary_dims() const;
    /// How many earlier positions a query of this layer sees besides its own; 0: all.
    int64_t span_of_layer(int64_t layer) const {
        return attention_span[static_cast<size_t>(layer) % attention_span.size()];
    }
};

/// Training FLOPs per token, forward and backward. `palm`: 6 (parameters - input embedding) + 12 L C T, with full
/// attention (PaLM appendix B, torchtitan); this is the reported figure. `causal`: the same with half the attention,
/// the part that a causal kernel computes.
struct FlopsPerToken {
    double palm = 0;
    double causal = 0;
};
FlopsPerToken flops_per_token(const ModelConfig& config, int64_t parameters, int64_t sequence_length);

}  // namespace ballast::model
