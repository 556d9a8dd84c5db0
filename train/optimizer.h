// AdamW's state and one optimiser step over the flat parameter arrays.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/weights.h"

namespace ballast::train {

/// What the host learns from a step.
struct StepResult {
    double grad_norm = 0;              // of the loss itself, before clipping
    bool applied = true;               // false: something was not finite and no parameter changed
    std::string non_finite_parameter;  // first parameter whose gradient is not finite; empty when only the loss was
};

class Optimizer {
  public:
    Optimizer(Context& context, const model::Weights& weights, const ops::AdamW& options, double clip_norm);

    /// Bytes of gradients and moments for such a model.
    static size_t bytes(const model::ParameterTable& table, Dtype compute_dtype);

    const model::FlatArray& gradients() const { return gradients_; }
    const model::FlatArray& first_moments() const { return m_; }
    const model::FlatArray& second_moments() const { return v_; }

    /// What update number `update` (1-based) runs with, on the host; queue_begin() sends it.
    void set_scalars(int64_t update, double learning_rate, double loss_scale = 1);
    /// Queued work of an update, before the passes and after them: gradients become zero; norm and AdamW, unless one of
    /// `losses` f64 [K] or of the gradients is not finite.
    void queue_begin();
    void queue_update(model::Weights& weights, const Tensor& losses);
    /// How the update went, once it has been waited for.
    StepResult result(const model::Weights& weights) const;

    /// The same in two calls that wait.
    void begin(int64_t update, double learning_rate, double loss_scale = 1);
    StepResult step(model::Weights& weights, const Tensor& losses);
    /// For the passes that add to the gradients.
    const ops::StepScalarsTensor& scalars() const { return scalars_; }

  private:
    std::string first_non_finite(const model::ParameterTable& table) const;

    Context& context_;
    ops::AdamW options_;
    double clip_norm_;
    ops::ParameterSet parameters_;
    model::FlatArray gradients_, m_, v_;
    HostBuffer host_scalars_;  // sent by queue_begin(), brought back by queue_update()
    DeviceBuffer scalars_buffer_, norms_buffer_;
    Tensor scalars_;         // ops::StepScalars
    Tensor sum_of_squares_;  // f64, one a parameter
};

}  // namespace ballast::train
