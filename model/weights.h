// The memory of a model's parameters, laid out by the parameter table.
#pragma once

#include <vector>

#include "kernels/context.h"
#include "model/parameter_table.h"

namespace ballast::model {

/// One flat array with a value for every parameter: weights, gradients or moments.
class FlatArray {
  public:
    FlatArray() = default;
    FlatArray(const Context& context, const ParameterTable& table, Dtype dtype);

    /// All of it, padding included: [flat_size].
    Tensor flat() const { return flat_; }
    /// A row's values, or those of joined rows, in their shape.
    Tensor of(const ParameterRow& row) const;

  private:
    DeviceBuffer buffer_;
    Tensor flat_;
};

/// What weights are for. Reading needs no master copy: half the memory in bf16.
enum class WeightUse { training, inference };

/// Training: master weights in the accumulation dtype (f32, or f64 for a f64 model) and, for bf16 and fp16, the copy
/// the ops compute with. Inference: the weights the ops compute with, and the few that they read in the accumulation
/// dtype.
class Weights {
  public:
    Weights(const Context& context, const ModelConfig& config, Dtype compute_dtype,
            WeightUse use = WeightUse::training);
    /// Device memory of such weights, known before they are made.
    static size_t bytes(const ParameterTable& table, Dtype compute_dtype, WeightUse use);

    const ParameterTable& table() const { return table_; }
    Dtype compute_dtype() const { return compute_dtype_; }
    Dtype master_dtype() const { return accumulation_dtype(compute_dtype_); }
    bool has_master() const { return use_ == WeightUse::training || !is_narrow(); }

    /// The master's tensors exist unless !has_master().
    Tensor master_flat() const { return master_.flat(); }
    /// Absent when the ops compute with the master itself.
    Tensor compute_flat() const { return is_narrow() ? compute_.flat() : Tensor{}; }
    Tensor master(const ParameterRow& row) const { return master_.of(row); }
    Tensor compute(const ParameterRow& row) const { return is_narrow() ? compute_.of(row) : master_.of(row); }
    /// A row that ops read in the accumulation dtype: sink logits.
    Tensor accumulated(const ParameterRow& row) const;
    /// A parameter's values as the best there is has them, on the host.
    std::vector<float> read(const Context& context, const ParameterRow& row) const;

    /// Draws every parameter from its own counter-based stream keyed by (seed, name): variants share common weights.
    void initialise(Context& context, uint64_t seed);
    /// Brings the compute copy up to date after the master was written from outside the optimiser.
    void refresh_compute(Context& context);

    /// Sets a parameter's weights; refresh_compute() when all are set.
    void write(const Context& context, const ParameterRow& row, const float* values);

  private:
    bool is_narrow() const { return compute_dtype_ != master_dtype(); }
    ParameterTable table_;
    Dtype compute_dtype_;
    WeightUse use_;
    FlatArray master_;
    FlatArray compute_;
    DeviceBuffer sink_buffer_;
    Tensor sinks_LH_;  // without a master: the sink logits, in the accumulation dtype
};

}  // namespace ballast::model
