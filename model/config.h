// What a model is: GPT-NeoX (Pythia) with our attention normalisers, sink tokens and positions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernels/attention_variant.h"
#include "kernels/ops.h"

namespace ballast {
class FieldVisitor;
}

namespace ballast::model {

enum class Position { rope, alibi, none };
/// As in config files, in the order of the enumerators.
inline constexpr std::array<std::string_view, 3> kPositionNames{"rope", "alibi", "none"};

struct ModelConfig {
    int64_t vocab_size = 50304;  // rows of the embedding, padding and sink tokens included
    int64_t hidden_size = 768;
    int64_t num_layers = 12;
    int64_t num_heads = 12;
    int64_t intermediate_size = 0;  // 0: 4 * hidden_size
    int64_t max_position_embeddings = 2048;
    double rotary_pct = 0.25;
    double rotary_base = 10000.0;
    double layer_norm_eps = 1e-5;
    ops::Gelu hidden_act = ops::Gelu::tanh;
    bool parallel_residual = true;
    bool tie_word_embeddings = false;
    Position position = Position::rope;
    Normaliser normaliser = Normaliser::softmax;
    int64_t num_sink_tokens = 0;
    int64_t sink_token_id = -1;  // first of num_sink_tokens consecutive ids; -1: right after the tokenizer's

    /// Lists every field once, for parsing, help, printing and saving.
    void visit(FieldVisitor& visitor);
    /// Throws UserError naming the first field that makes no sense, and what would.
    void validate() const;

    int64_t head_dim() const { return hidden_size / num_heads; }
    int64_t feed_forward_dim() const { return intermediate_size > 0 ? intermediate_size : 4 * hidden_size; }
    /// Dims of a head that rotate: int(head_dim * rotary_pct), 0 unless position = rope.
    int64_t rotary_dims() const;
};

/// Training FLOPs a token, forward and backward. `palm`: 6 (parameters - input embedding) + 12 L C T, attention counted
/// in full (PaLM appendix B, torchtitan): the headline. `causal`: the same with attention halved, as a causal kernel
/// computes.
struct FlopsPerToken {
    double palm = 0;
    double causal = 0;
};
FlopsPerToken flops_per_token(const ModelConfig& config, int64_t parameters, int64_t sequence_length);

}  // namespace ballast::model
