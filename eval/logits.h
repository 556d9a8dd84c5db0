// Logits, loss and gradients for given ids, for comparison with other implementations.
#pragma once

#include <string>

#include "model/transformer.h"

namespace ballast::eval {

/// Reads int32 `input_ids` [B,T] from a safetensors file. Writes `logits` f32 [B,T,V] and `loss` f32 [] (mean
/// next-token cross-entropy over the B*(T-1) predictions, as in transformers); on request also every gradient of the
/// loss as `grad.<parameter name>`. The model's sink tokens are prepended internally; only the T rows are returned.
/// Returns the loss.
double write_logits(Context& context, model::Transformer& model, const std::string& ids_path,
                    const std::string& out_path, bool gradients);

}  // namespace ballast::eval
