// MODEL arguments of commands: a run directory (its newest valid checkpoint), a checkpoint file or a Hugging Face
// folder.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "model/transformer.h"

namespace ballast::train {

/// What is known of a model before its weights are read.
struct ModelSource {
    model::ModelConfig config;
    std::string source;          // the file or folder the weights are in
    std::string tokenizer_path;  // tokenizer.json beside it; empty when there is none
    std::string tokenizer_hash;  // of the one a checkpoint was trained with; empty when unknown
    int64_t step = -1;           // of a checkpoint
};

struct LoadedModel : ModelSource {
    std::unique_ptr<model::Transformer> model;
};

/// UserError when `path` is none of the three, is damaged, or holds no valid checkpoint.
ModelSource find_model(const std::string& path);

/// The same with the weights, for reading only: no gradients' update can follow. `matrices`: the dtype they are held in
/// (model::Weights); none: `dtype`. UserError where that is wider, or not to be combined with `dtype`.
LoadedModel load_model(const std::string& path, Context& context, Dtype dtype,
                       std::optional<Dtype> matrices = std::nullopt);

}  // namespace ballast::train
