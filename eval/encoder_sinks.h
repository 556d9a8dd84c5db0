// The attention of encoders: StreamingLLM (Xiao et al., ICLR 2024), appendix H, finds that BERT has sinks as well, on
// [SEP], where a decoder has them on its first token.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "eval/memory.h"
#include "model/bert.h"

namespace ballast::eval {

/// The kinds of tokens in a sequence: the first, [CLS]; those with the id of the last, [SEP]; the rest.
enum class EncoderToken { cls, sep, rest };
inline constexpr std::array<const char*, 3> kEncoderTokens{"cls", "sep", "rest"};

struct EncoderSinkResult {
    int64_t sequences = 0, layers = 0, heads = 0;
    int64_t length = 0;  // tokens of a sequence, special tokens included; 0: sequences have different lengths
    /// For each kind, [layers, heads]: the share of a query's attention on all tokens of the kind, as a mean over the
    /// queries of a sequence and over sequences. The three shares of a head sum to 1.
    std::array<std::vector<double>, kEncoderTokens.size()> share;
    // Mean maps [layers, heads, length, length] of weights and of logits before the softmax; empty unless requested.
    std::vector<float> maps, logit_maps;
};

/// A model has only one such result.
inline bool same_subject(const EncoderSinkResult&, const EncoderSinkResult&) { return true; }

/// What evaluate_encoder_sinks() takes for sequences of at most `length` tokens.
MeasurementMemory encoder_sinks_memory(const model::BertConfig& config, int64_t length, bool maps);

/// `sequences` are in the model's input form, [CLS] … [SEP]. `maps` require sequences of one length, else UserError.
/// `progress` gets the number of sequences done.
EncoderSinkResult evaluate_encoder_sinks(Context& context, const model::Bert& model,
                                         const std::vector<std::vector<int32_t>>& sequences, bool maps,
                                         const std::function<void(int64_t)>& progress);

}  // namespace ballast::eval
