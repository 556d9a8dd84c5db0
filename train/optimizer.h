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

/// What the host learns from a step.
struct StepResult {
    double grad_norm = 0;               // of the loss itself, before clipping
    bool finite = true, spike = false;  // the loss and the gradient, and whether one was above its limit
    std::string non_finite_parameter;   // first parameter whose gradient is not finite; empty when only the loss was

    /// Otherwise no parameter changed.
    bool applied() const { return finite && !spike; }
};

/// Above one of them an update is a spike, and is not applied.
struct UpdateLimits {
    double loss = ops::StepScalars::kNoLimit;  // of the sum over all targets
    double norm = ops::StepScalars::kNoLimit;  // of the gradient
};

class Optimizer {
  public:
    Optimizer(Context& context, const model::Weights& weights, const ops::AdamW& options, double clip_norm,
              const Distribution& distribution = Distribution::single());

    /// Bytes of the moments that a rank keeps.
    static size_t moment_bytes(const model::ParameterTable& table, Dtype compute_dtype,
                               const Distribution& distribution);

    Context& context() const { return context_; }
    const Distribution& distribution() const { return distribution_; }
    /// Of one of the rank's lanes.
    const model::FlatArray& gradients(int64_t lane = 0) const { return gradients_.lane_gradients(lane); }

    /// Where its work is, and was when, goes there from now on; null: nowhere.
    void set_timeline(Timeline* timeline) { timeline_ = timeline; }
    Timeline* timeline() const { return timeline_; }

    /// What update number `update` (1-based) runs with, on the host; queue_begin() sends it.
    void set_scalars(int64_t update, double learning_rate, double loss_scale = 1, const UpdateLimits& limits = {});
    /// Queued work of an update, before the passes: gradients become zero.
    void queue_begin();
    /// To be called by the rank's last backward pass when it has finished a part (model::backward_part()): buckets
    /// whose gradients are all there are reduced while the pass goes on, where ranks overlap. Until queue_reduction()
    /// nothing else may communicate.
    void part_finished(int64_t part);
    /// After the passes: sums over lanes and ranks of the gradients that are left, and their squares.
    void queue_reduction();
    /// Norm and AdamW, unless one of `losses` f64 [K], of the passes of all ranks, or of the gradients is not finite,
    /// or the update is a spike. Reduces first what queue_reduction() has not.
    void queue_update(model::Weights& weights, const Tensor& losses);
    /// How the update went, once it has been waited for.
    StepResult result(const model::Weights& weights) const;

    /// The same in two calls that wait.
    void begin(int64_t update, double learning_rate, double loss_scale = 1);
    StepResult step(model::Weights& weights, const Tensor& losses);
    /// For the passes that add to the gradients.
    const ops::StepScalarsTensor& scalars() const { return scalars_; }

    /// The state of a parameter that checkpoints keep.
    enum class State { weights, first_moment, second_moment };
    /// Puts a parameter's values in the accumulation dtype into `values` of rank 0; other ranks' may be empty.
    /// Collective.
    void gather(State state, const model::ParameterRow& row, const model::Weights& weights,
                std::span<char> values) const;
    /// Takes what this rank keeps of a parameter's moment out of all its values.
    void load(State state, const model::ParameterRow& row, const std::vector<char>& values);

  private:
    /// What an update needs of a bucket. Offsets of blocks are from the first element of either range.
    struct BucketState {
        Range own, updated;    // elements whose sums this rank makes, and those that it updates and keeps moments of
        int64_t moment_begin;  // of `updated` among the moments
        ops::ParameterSet own_blocks, updated_blocks;
    };

    std::string first_non_finite(const model::ParameterTable& table) const;
    /// Runs at once, or after what was given to the other thread before.
    void run_or_post(std::function<void(Context&)> work);
    void post_buckets_until(int64_t part);
    void reduce(Context& context, size_t bucket);
    void gather_weights(Context& context, const model::Weights& weights, size_t bucket);
    const Tensor& moment(State state) const { return state == State::first_moment ? m_ : v_; }
    /// Whether other ranks' parts of it are out of date here.
    bool is_sharded(State state, const model::Weights& weights) const;
    /// The values that this rank keeps, of elements that it has.
    Tensor kept(State state, const model::Weights& weights, size_t bucket, Range elements) const;

    Context& context_;
    ops::AdamW options_;
    double clip_norm_;
    const Distribution& distribution_;
    Shards shards_;
    GradientSum gradients_;
    std::vector<BucketState> buckets_;
    DeviceBuffer moment_buffer_;
    Tensor m_, v_;             // of what is updated, bucket after bucket
    HostBuffer host_scalars_;  // sent by queue_begin(), brought back by queue_update()
    DeviceBuffer scalars_buffer_, norms_buffer_;
    Tensor scalars_;         // ops::StepScalars
    Tensor sum_of_squares_;  // f64, one a block
    Timeline* timeline_ = nullptr;
    size_t buckets_given_ = 0;  // to be reduced, in this update
    /// Where ranks overlap: what communicates, beside the passes. One thread: it waits more than it computes, and the
    /// pool keeps all of its own.
    std::unique_ptr<Context> communication_context_;
    std::unique_ptr<TaskThread> communication_;
};

}  // namespace ballast::train
