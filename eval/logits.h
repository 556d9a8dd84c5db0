// Logits, loss and gradients on given ids, for comparison with anything else.
#pragma once

#include <string>

#include "model/transformer.h"

namespace ballast::eval {

/// Reads int32 `input_ids` [B,T] from a safetensors file and writes `logits` f32 [B,T,V], `loss` f32 [] (mean
/// next-token cross-entropy over the B*(T-1) predictions, as transformers computes it) and, when asked, every gradient
/// of it as `grad.<parameter name>`. The model's sink tokens are prepended inside; only the T rows come back. Returns
/// the loss.
double write_logits(Context& context, model::Transformer& model, const std::string& ids_path,
                    const std::string& out_path, bool gradients);

}  // namespace ballast::eval
