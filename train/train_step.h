// One update of a training run as queued work: the gradients of every pass, their norm, AdamW.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/recording.h"
#include "train/optimizer.h"
#include "train/run_config.h"

namespace ballast::train {

/// On CUDA a graph from the second update on (kernels/recording.h). The tokens of the next update are handed over while
/// the device works on this one:
///
///   load(first) · synchronise · [ run · load(next) · synchronise · loss(), Optimizer::result() ]*
class TrainStep {
  public:
    TrainStep(Context& context, model::Transformer& model, Optimizer& optimizer, const RunConfig& config);

    /// Device memory for a step's tokens and losses.
    static size_t bytes(const RunConfig& config);

    /// Queues the copy of the next update's samples: windows of T + 1 tokens, one after another. What was loaded before
    /// must have reached the device.
    void load(std::span<const int32_t> windows);
    /// Queues the update whose tokens were loaded last and whose scalars the optimiser holds.
    void run();
    /// The mean loss over the targets, nats; once the run has been waited for.
    double loss() const;

  private:
    void queue_work();

    Context& context_;
    model::Transformer& model_;
    Optimizer& optimizer_;
    int64_t length_, samples_, passes_;
    double num_targets_;  // of all samples
    model::Pass pass_;
    DeviceBuffer buffer_;
    Tensor tokens_;           // i32 [2][passes][B*T]: ids, then targets
    Tensor losses_;           // f64 [passes], the sum over each pass's targets
    HostBuffer host_tokens_;  // as tokens_
    HostBuffer host_losses_;
    Recording recording_;
};

}  // namespace ballast::train
