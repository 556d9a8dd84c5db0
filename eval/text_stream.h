// Held-out text as one long stream of tokens with targets; the model's sink tokens come first.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"

namespace ballast::eval {

/// `tokens` starts with the model's n sink tokens, then the text t[0], t[1], …; t[0] is never scored, so that every
/// model scores the same tokens for any n. Besides the losses, only this stream grows with the text: 4 bytes per token.
struct TextStream {
    std::vector<int32_t> tokens;
    int64_t num_sink_tokens = 0;
    bool has_first_token = false;  // t[0] is the token that every training sample of the model began with

    /// The positions at the start that every training sample of the model had: sink tokens, or its first token.
    int64_t num_leading() const { return num_sink_tokens + (has_first_token ? 1 : 0); }

    /// The token after tokens[i]; -1 for sinks and for the last token.
    int32_t target(size_t i) const;

    /// The number of scored tokens.
    int64_t num_targets() const { return static_cast<int64_t>(tokens.size()) - num_sink_tokens - 1; }
};

/// The model's sink tokens, then the text. UserError for an id that the model does not have.
std::vector<int32_t> with_sink_tokens(std::span<const uint32_t> text, const model::ModelConfig& config);

/// `first_id`: what every training sample of the model began with (ModelSource::first_of_samples), and so does `text`;
/// -1: nothing. UserError when there are fewer than two tokens or an id that the model does not have.
TextStream make_text_stream(const std::vector<uint32_t>& text, const model::ModelConfig& config, int64_t max_tokens,
                            int64_t first_id = -1);

/// At most `count` pieces of `length` tokens that do not overlap, spread evenly over a text of at least `length`
/// tokens. `first_id`: replaces the first token of each piece, as in the samples of a model that was trained so; -1:
/// pieces stay as in the text.
std::vector<std::vector<uint32_t>> spread_pieces(const std::vector<uint32_t>& text, int64_t length, int64_t count,
                                                 int64_t first_id);

}  // namespace ballast::eval
