// Where an encoder's attention goes: StreamingLLM (Xiao et al., ICLR 2024), appendix H, finds that BERT has sinks as
// well, on [SEP] where a decoder has them on its first token.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "model/bert.h"

namespace ballast::eval {

/// Kinds of tokens of a sequence: its first, [CLS]; those with the id of its last, [SEP]; the rest.
enum class EncoderToken { cls, sep, rest };
inline constexpr std::array<const char*, 3> kEncoderTokens{"cls", "sep", "rest"};

struct EncoderSinkResult {
    int64_t sequences = 0, layers = 0, heads = 0;
    int64_t length = 0;  // tokens of a sequence, special ones included; 0: sequences of several lengths
    /// For each kind, [layers, heads]: share of a query's attention that all tokens of the kind get, mean over the
    /// queries of a sequence and over sequences. The three of a head sum to 1.
    std::array<std::vector<double>, kEncoderTokens.size()> share;
    // Mean maps [layers, heads, length, length] of weights and of logits before the softmax; empty unless asked for.
    std::vector<float> maps, logit_maps;
};

/// A model has one.
inline bool same_subject(const EncoderSinkResult&, const EncoderSinkResult&) { return true; }

/// Each sequence as the model reads it, [CLS] … [SEP]. `maps` need sequences of one length: UserError otherwise.
/// `progress` gets the number of sequences done.
EncoderSinkResult evaluate_encoder_sinks(Context& context, const model::Bert& model,
                                         const std::vector<std::vector<int32_t>>& sequences, bool maps,
                                         const std::function<void(int64_t)>& progress);

}  // namespace ballast::eval
