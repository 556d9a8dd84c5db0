// The loss on text that is held out from training.
#pragma once

#include "data/sampler.h"
#include "model/transformer.h"
#include "train/run_config.h"

namespace ballast::train {

/// Takes the memory of its pass when it is made, and keeps it.
class Validation {
  public:
    /// UserError when the store is shorter than one pass: it could never give a loss.
    Validation(Context& context, model::Transformer& model, const data::TokenStore& store, const RunConfig& config);

    /// Nats a target, over the first [validation] batches passes of the text.
    double loss();

  private:
    Context& context_;
    const model::ModelConfig& config_;
    data::SequentialSampler windows_;
    int64_t passes_;
    model::Pass pass_;
    DeviceBuffer sum_buffer_;  // f64 [1]
};

}  // namespace ballast::train
