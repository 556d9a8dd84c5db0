// One update of a training run as queued work: the gradients of every pass, their norm, AdamW.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/recording.h"
#include "train/optimizer.h"
#include "train/run_config.h"

namespace ballast::train {

/// On CUDA a graph from the second update on (kernels/recording.h). The host loads the tokens of the next update while
/// the device works on this one:
///
///   load(first) · synchronise · [ run · load(next) · synchronise · loss(), Optimizer::result() ]*
class TrainStep {
  public:
    TrainStep(Context& context, model::Transformer& model, Optimizer& optimizer, const RunConfig& config);

    /// Device memory for a step's tokens and losses.
    static size_t bytes(const RunConfig& config, const Distribution& distribution = Distribution::single());

    /// The samples of an update that this rank computes, counted from the update's first sample.
    Range samples() const { return samples_; }
    /// The number of targets of an update, over all ranks.
    double num_targets() const { return num_targets_; }
    /// Queues the copy of the next update's samples: windows of T + 1 tokens, one after another. With
    /// data.document_mask also the index in its window at which each token's document begins (data/sampler.h), else an
    /// empty span. The previous load must have reached the device.
    void load(std::span<const int32_t> windows, std::span<const int32_t> document_starts);
    /// Queues the update for the tokens that were loaded last and the scalars that the optimiser holds.
    void run();
    /// Records places and events in `timeline` from now on, for the optimiser too. Where a GPU replays a recorded
    /// update, only the host's activity is recorded: events are for a CPU.
    void set_timeline(Timeline* timeline);
    /// The mean loss over the targets, in nats. Valid after the run was waited for.
    double loss() const;

  private:
    void queue_work();
    void queue_pass(int64_t pass, int64_t lane);
    /// Records the places of a pass in the timeline; `is_last`: the rank's last pass.
    void observe(bool is_last);
    void note_finished(int64_t part);
    void enter(Place place);

    Context& context_;
    model::Transformer& model_;
    Optimizer& optimizer_;
    bool document_mask_;
    int64_t length_;
    Range passes_, samples_;  // this rank's
    double num_targets_;      // of all samples
    model::Pass pass_;
    DeviceBuffer buffer_;
    Tensor tokens_;  // i32 [2 or 3][this rank's passes][B*T]: ids, targets, and with data.document_mask first keys
    Tensor losses_;  // f64 [passes of all ranks], the sum over each pass's targets
    HostBuffer host_tokens_;  // as tokens_
    HostBuffer host_losses_;
    Timeline* timeline_ = nullptr;
    double part_begin_ = 0;
    Recording recording_;
};

}  // namespace ballast::train
