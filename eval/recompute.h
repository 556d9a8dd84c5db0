// Perplexity without a cache: for every scored token, the model's sink tokens and the last tokens of the text run
// through the model again.
#pragma once

#include <functional>

#include "eval/streaming.h"

namespace ballast::eval {

/// What recompute_losses() takes over a stream of `positions` tokens, sinks included, for a model whose matrices are
/// stored as `weights`.
MeasurementMemory recompute_memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                   int64_t positions, int64_t length, int64_t every);

/// Scores the text positions that are multiples of `every`, each with a window of `length` positions, sinks included.
/// The losses are those of the text's targets. `length` must exceed the number of sink tokens.
TokenLosses recompute_losses(Context& context, model::Transformer& model, const TextStream& text, int64_t length,
                             int64_t every, const StreamingProgress& progress);

}  // namespace ballast::eval
