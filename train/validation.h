// The loss on text that is held out from training.
#pragma once

#include <functional>
#include <vector>

#include "data/sampler.h"
#include "model/transformer.h"
#include "train/run_config.h"

namespace ballast::train {

/// Takes the memory of its pass when it is made, and keeps it.
class Validation {
  public:
    /// UserError when the store is shorter than one pass: it could never give a loss.
    Validation(Context& context, model::Transformer& model, const data::TokenStore& store, const RunConfig& config);

    /// Nats a target, over the first [validation] batches passes of the text; `after_pass` is called after each.
    double loss(const std::function<void()>& after_pass = [] {});

  private:
    /// Lets the pass read first keys, [B*T], with data.document_mask.
    void mask_documents(const std::vector<int32_t>& first_keys);

    Context& context_;
    const model::ModelConfig& config_;
    bool document_mask_;
    data::SequentialSampler windows_;
    int64_t passes_;
    model::Pass pass_;
    DeviceBuffer sum_buffer_;        // f64 [1]
    DeviceBuffer first_key_buffer_;  // i32 [B*T]; empty without data.document_mask
};

}  // namespace ballast::train
