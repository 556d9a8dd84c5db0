// Logits, loss and gradients for given ids, for comparison with other implementations.
#pragma once

#include <string>

#include "eval/input_ids.h"
#include "eval/memory.h"
#include "model/transformer.h"

namespace ballast::eval {

/// What write_logits() takes beside weights for inference, for ids [batch, length] and a model that computes in
/// `dtype`.
MeasurementMemory logits_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                const InputIds& ids, bool gradients);

/// Writes `logits` f32 [B,T,V] of `ids` [B,T] and `loss` f32 [] (mean next-token cross-entropy over the B*(T-1)
/// predictions, as in transformers) to a safetensors file; on request also every gradient of the loss as
/// `grad.<parameter name>`. The model's sink tokens are prepended internally; only the T rows are returned. Returns the
/// loss.
double write_logits(Context& context, model::Transformer& model, const InputIds& ids, const std::string& out_path,
                    bool gradients);

}  // namespace ballast::eval
