// The memory of a model's parameters, laid out by the parameter table.
#pragma once

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
    Tensor of(const ParameterRow& row) const;

  private:
    DeviceBuffer buffer_;
    Tensor flat_;
};

/// Master weights in the accumulation dtype (f32, or f64 for a f64 model) and, for bf16 and fp16, the copy the ops
/// compute with.
class Weights {
  public:
    Weights(const Context& context, const ModelConfig& config, Dtype compute_dtype);

    const ParameterTable& table() const { return table_; }
    Dtype compute_dtype() const { return compute_dtype_; }
    Dtype master_dtype() const { return accumulation_dtype(compute_dtype_); }

    Tensor master_flat() const { return master_.flat(); }
    /// Absent when the ops compute with the master itself.
    Tensor compute_flat() const { return has_copy() ? compute_.flat() : Tensor{}; }
    Tensor master(const ParameterRow& row) const { return master_.of(row); }
    Tensor compute(const ParameterRow& row) const { return has_copy() ? compute_.of(row) : master_.of(row); }

    /// Draws every parameter from its own counter-based stream keyed by (seed, name): variants share common weights.
    void initialise(Context& context, uint64_t seed);
    /// Brings the compute copy up to date after the master was written from outside the optimiser.
    void refresh_compute(Context& context);

    /// Sets a parameter's master weights; refresh_compute() when all are set.
    void write(const Context& context, const ParameterRow& row, const float* values);

  private:
    bool has_copy() const { return compute_dtype_ != master_dtype(); }

    ParameterTable table_;
    Dtype compute_dtype_;
    FlatArray master_;
    FlatArray compute_;
};

}  // namespace ballast::model
