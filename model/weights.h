// The memory of a model's parameters, laid out by the parameter table.
#pragma once

#include <optional>
#include <vector>

#include "kernels/context.h"
#include "model/narrow_matrices.h"

namespace ballast::model {

/// One flat array with a value for every parameter: weights, gradients or moments.
class FlatArray {
  public:
    FlatArray() = default;
    FlatArray(const Context& context, const ParameterTable& table, Dtype dtype);
    /// The rows at `places` alone.
    FlatArray(const Context& context, RowPlaces places, Dtype dtype);

    /// All of it, padding included: [flat_size], or less where rows are elsewhere.
    Tensor flat() const { return flat_; }
    /// A row's values, or those of joined rows, in their shape.
    Tensor of(const ParameterRow& row) const;

  private:
    std::optional<RowPlaces> places_;  // none: as in the table
    DeviceBuffer buffer_;
    Tensor flat_;
};

/// What weights are for. Reading needs no master copy: half the memory in bf16.
enum class WeightUse { training, inference };

/// Training: master weights in the accumulation dtype (f32, or f64 for a f64 model) and, for bf16 and fp16, the copy
/// the ops compute with. Inference: the weights the ops compute with, and the few that they read in the accumulation
/// dtype; the matrices (ParameterRow::may_narrow) may be held in a narrower dtype, bf16 beside f32 or i8.
class Weights {
  public:
    /// `matrices`: their dtype where that is not the compute dtype; for inference only.
    Weights(const Context& context, const ModelConfig& config, Dtype compute_dtype,
            WeightUse use = WeightUse::training, std::optional<Dtype> matrices = std::nullopt);
    /// Device memory of such weights, known before they are made.
    static size_t bytes(const ParameterTable& table, Dtype compute_dtype, WeightUse use,
                        std::optional<Dtype> matrices = std::nullopt);

    const ParameterTable& table() const { return table_; }
    Dtype compute_dtype() const { return compute_dtype_; }
    Dtype master_dtype() const { return accumulation_dtype(compute_dtype_); }
    Dtype matrix_dtype() const { return matrices_ ? matrices_->dtype() : compute_dtype_; }
    bool has_master() const { return use_ == WeightUse::training || !(is_narrow() || matrices_); }

    /// The master's tensors exist unless !has_master().
    Tensor master_flat() const { return master_.flat(); }
    /// Absent when the ops compute with the master itself.
    Tensor compute_flat() const { return is_narrow() ? compute_.flat() : Tensor{}; }
    Tensor master(const ParameterRow& row) const { return master_.of(row); }
    /// A row in the compute dtype; not one of narrower matrices.
    Tensor compute(const ParameterRow& row) const { return has_compute() ? compute_.of(row) : master_.of(row); }
    /// A row, or joined rows, as products read it: a narrower matrix comes with its scales.
    ops::LinearWeight stored(const ParameterRow& row) const {
        return is_matrix(row) ? matrices_->of(row) : ops::LinearWeight{compute(row), {}};
    }
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
    bool has_compute() const { return is_narrow() || matrices_; }
    bool is_matrix(const ParameterRow& row) const { return matrices_ && matrices_->holds(row); }
    ParameterTable table_;
    Dtype compute_dtype_;
    WeightUse use_;
    FlatArray master_;
    FlatArray compute_;
    std::optional<NarrowMatrices> matrices_;
    DeviceBuffer sink_buffer_;
    Tensor sinks_LH_;  // without a master: the sink logits, in the accumulation dtype
};

}  // namespace ballast::model
