// MODEL arguments of commands: a run directory (its newest valid checkpoint), a checkpoint file or a Hugging Face
// folder.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/sampler.h"
#include "model/transformer.h"

namespace ballast::train {

/// The properties of a model that are known before its weights are read.
struct ModelSource {
    model::ModelConfig config;
    std::string source;          // the file or folder the weights are in
    std::string tokenizer_path;  // tokenizer.json beside it; empty when there is none
    std::string tokenizer_hash;  // of the tokenizer that a checkpoint was trained with; empty when unknown
    int64_t step = -1;           // of a checkpoint
    /// How the training samples of a checkpoint began. For a Hugging Face folder the tokenizer decides how texts begin.
    data::FirstToken first_token = data::FirstToken::none;

    /// The token that replaced the first token of training samples: the first id of `text`, which is the model's; -1:
    /// none.
    int64_t first_of_samples(const std::vector<uint32_t>& text) const {
        return first_token == data::FirstToken::every_window ? int64_t{text.front()} : -1;
    }
};

struct LoadedModel : ModelSource {
    std::unique_ptr<model::Transformer> model;
};

/// UserError when `path` is none of the three, is damaged, or contains no valid checkpoint.
ModelSource find_model(const std::string& path);

/// An encoder's folder (model/bert.h) and its tokenizer. It has no ModelConfig.
ModelSource encoder_source(const std::string& folder);

/// The same with the weights, for inference only: they cannot be trained further. `matrices`: the dtype in which
/// matrices are stored (model::Weights); empty: `dtype`. UserError when `matrices` is wider than `dtype`, or cannot be
/// combined with it.
LoadedModel load_model(const std::string& path, Context& context, Dtype dtype,
                       std::optional<Dtype> matrices = std::nullopt);

}  // namespace ballast::train
