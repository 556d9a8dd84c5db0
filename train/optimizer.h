// AdamW's state and one optimiser step over the flat parameter arrays, for all parameters or a rank's share of them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/task_thread.h"
#include "model/weights.h"
#include "train/gradient_sum.h"

namespace ballast::train {

/// The result of a step, as the host reads it.
struct StepResult {
    double grad_norm = 0;               // of the loss itself, before clipping
    bool finite = true, spike = false;  // the loss and the gradient, and whether one was above its limit
    std::string non_finite_parameter;   // first parameter whose gradient is not finite; empty when only the loss was

    /// When false, no parameter changed.
    bool applied() const { return finite && !spike; }
};

/// An update above one of these limits is a spike and is not applied.
struct UpdateLimits {
    double loss = ops::StepScalars::kNoLimit;  // of the sum over all targets
    double norm = ops::StepScalars::kNoLimit;  // of the gradient
};

class Optimizer {
  public:
    Optimizer(Context& context, const model::Weights& weights, const ops::AdamW& options, double clip_norm,
              const Distribution& distribution = Distribution::single());

    /// The bytes of the moments that a rank keeps.
    static size_t moment_bytes(const model::ParameterTable& table, Dtype compute_dtype,
                               const Distribution& distribution);

    Context& context() const { return context_; }
    const Distribution& distribution() const { return distribution_; }
    /// The gradients of one of the rank's lanes.
    const model::FlatArray& gradients(int64_t lane = 0) const { return gradients_.lane_gradients(lane); }

    /// Records places and events in `timeline` from now on; null: nowhere.
    void set_timeline(Timeline* timeline) { timeline_ = timeline; }
    Timeline* timeline() const { return timeline_; }

    /// Sets the scalars of update number `update` (1-based), on the host. queue_begin() sends them to the device.
    void set_scalars(int64_t update, double learning_rate, double loss_scale = 1, const UpdateLimits& limits = {});
    /// Queues the work before the passes of an update: clears the gradients.
    void queue_begin();
    /// To be called by the rank's last backward pass when it has finished a part (model::backward_part()). Where ranks
    /// overlap, buckets whose gradients are complete are reduced while the pass continues. Until queue_reduction()
    /// nothing else may communicate.
    void part_finished(int64_t part);
    /// To be called after the passes: sums the remaining gradients over lanes and ranks, and computes their squares.
    void queue_reduction();
    /// Computes the norm and applies AdamW, unless a loss or gradient is not finite or the update is a spike. `losses`
    /// f64 [K] are those of the passes of all ranks. Reduces first the gradients that queue_reduction() has not
    /// reduced.
    void queue_update(model::Weights& weights, const Tensor& losses);
    /// The result of the update, after the update was waited for.
    StepResult result(const model::Weights& weights) const;

    /// The same in two calls that wait.
    void begin(int64_t update, double learning_rate, double loss_scale = 1);
    StepResult step(model::Weights& weights, const Tensor& losses);
    /// The scalars for the passes that add to the gradients.
    const ops::StepScalarsTensor& scalars() const { return scalars_; }

    /// The parts of a parameter's state that checkpoints keep.
    enum class State { weights, first_moment, second_moment };
    /// Writes a parameter's values in the accumulation dtype to `values` on rank 0; other ranks' `values` may be empty.
    /// Collective.
    void gather(State state, const model::ParameterRow& row, const model::Weights& weights,
                std::span<char> values) const;
    /// Copies this rank's part of a parameter's moment from all its values.
    void load(State state, const model::ParameterRow& row, const std::vector<char>& values);

  private:
    /// The data that an update needs for a bucket. Offsets of blocks count from the first element of the range.
    struct BucketState {
        Range own, updated;    // elements that this rank sums; elements that it updates and keeps the moments of
        int64_t moment_begin;  // offset of `updated` in the moments
        ops::ParameterSet own_blocks, updated_blocks;
    };

    std::string first_non_finite(const model::ParameterTable& table) const;
    /// Runs the work at once, or, where ranks overlap, beside the passes: after earlier work of this kind and, on a
    /// GPU, after all work that the device was given so far.
    void run_or_post(std::function<void(Context&)> work);
    /// The update continues after all of that work.
    void wait_for_communication();
    void post_buckets_until(int64_t part);
    void reduce(Context& context, size_t bucket);
    void gather_weights(Context& context, const model::Weights& weights, size_t bucket);
    const Tensor& moment(State state) const { return state == State::first_moment ? m_ : v_; }
    /// True when other ranks' parts of the state are out of date on this rank.
    bool is_sharded(State state, const model::Weights& weights) const;
    /// The values that this rank keeps, for elements of its share.
    Tensor kept(State state, const model::Weights& weights, size_t bucket, Range elements) const;

    Context& context_;
    ops::AdamW options_;
    double clip_norm_;
    const Distribution& distribution_;
    Shards shards_;
    GradientSum gradients_;
    std::vector<BucketState> buckets_;
    DeviceBuffer moment_buffer_;
    Tensor m_, v_;             // of the updated elements, bucket after bucket
    HostBuffer host_scalars_;  // sent by queue_begin(), read back by queue_update()
    DeviceBuffer scalars_buffer_, norms_buffer_;
    Tensor scalars_;         // ops::StepScalars
    Tensor sum_of_squares_;  // f64, one per block
    Timeline* timeline_ = nullptr;
    size_t buckets_given_ = 0;  // buckets given to reduction in this update
    /// Where ranks overlap: the context for communication during the passes. On the CPU it has one thread, since it
    /// waits more than it computes, so the pool keeps all its threads; on a GPU it is a second stream.
    std::unique_ptr<Context> communication_context_;
    std::unique_ptr<TaskThread> communication_thread_;
};

}  // namespace ballast::train
