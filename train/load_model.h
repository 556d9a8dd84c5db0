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

/// What is known of a model before its weights are read.
struct ModelSource {
    model::ModelConfig config;
    std::string source;          // the file or folder the weights are in
    std::string tokenizer_path;  // tokenizer.json beside it; empty when there is none
    std::string tokenizer_hash;  // of the one a checkpoint was trained with; empty when unknown
    int64_t step = -1;           // of a checkpoint
    /// Of a checkpoint: the beginnings it was trained on. A Hugging Face folder's tokenizer says how its texts begin.
    data::FirstToken first_token = data::FirstToken::none;

    /// The token that samples began with in the place of the text's: the first of `text`, which is the model's; -1:
    /// none.
    int64_t first_of_samples(const std::vector<uint32_t>& text) const {
        return first_token == data::FirstToken::every_window ? int64_t{text.front()} : -1;
    }
};

struct LoadedModel : ModelSource {
    std::unique_ptr<model::Transformer> model;
};

/// UserError when `path` is none of the three, is damaged, or holds no valid checkpoint.
ModelSource find_model(const std::string& path);

/// An encoder's folder (model/bert.h) and its tokenizer; it has no ModelConfig.
ModelSource encoder_source(const std::string& folder);

/// The same with the weights, for reading only: no gradients' update can follow. `matrices`: the dtype they are held in
/// (model::Weights); none: `dtype`. UserError where that is wider, or not to be combined with `dtype`.
LoadedModel load_model(const std::string& path, Context& context, Dtype dtype,
                       std::optional<Dtype> matrices = std::nullopt);

}  // namespace ballast::train
