// The loss on held-out text.
#pragma once

#include <functional>
#include <vector>

#include "data/sampler.h"
#include "model/transformer.h"
#include "train/run_config.h"

namespace ballast::train {

/// Allocates the memory of its pass in the constructor and keeps it.
class Validation {
  public:
    /// UserError when the store is shorter than one pass: it could never give a loss.
    Validation(Context& context, model::Transformer& model, const data::TokenStore& store, const RunConfig& config);

    /// The loss in nats per target, over the first [validation] batches passes of the text. Calls `after_pass` after
    /// each pass.
    double loss(const std::function<void()>& after_pass = [] {});

  private:
    /// Sets the pass's first keys, [B*T], for data.document_mask.
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
