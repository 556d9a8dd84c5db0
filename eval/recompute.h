// Perplexity without a cache: for every scored token, what the model's training samples began with (sink tokens, or
// their first token) and the last tokens of the text run through the model again.
#pragma once

#include <functional>

#include "eval/streaming.h"

namespace ballast::eval {

/// What recompute_losses() takes over a stream of `positions` tokens, sinks included, for a model whose matrices are
/// stored as `weights`.
MeasurementMemory recompute_memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                   int64_t positions, int64_t length, int64_t every);

/// Scores the text positions that are multiples of `every`, each with a window of `length` positions, those
/// of TextStream::num_leading() included, which it must exceed. The losses are those of the text's targets.
TokenLosses recompute_losses(Context& context, model::Transformer& model, const TextStream& text, int64_t length,
                             int64_t every, const StreamingProgress& progress);

}  // namespace ballast::eval
