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
    /// Holds only the rows at `places`.
    FlatArray(const Context& context, RowPlaces places, Dtype dtype);

    /// The whole array, padding included: [flat_size], or less when some rows are stored elsewhere.
    Tensor flat() const { return flat_; }
    /// The values of a row, or of joined rows, in their shape.
    Tensor of(const ParameterRow& row) const;

  private:
    std::optional<RowPlaces> places_;  // empty: offsets as in the table
    DeviceBuffer buffer_;
    Tensor flat_;
};

/// The use of weights. Inference needs no master copy: half the memory in bf16.
enum class WeightUse { training, inference };

/// Training: master weights in the accumulation dtype (f32, or f64 for a f64 model) and, for bf16 and fp16, a copy in
/// the compute dtype. Inference: weights in the compute dtype, plus the few that ops read in the accumulation dtype.
/// The matrices (ParameterRow::may_narrow) may be stored in a narrower dtype: bf16 with f32 compute, or i8.
class Weights {
  public:
    /// `matrices`: the dtype of matrices when it is not the compute dtype; for inference only.
    Weights(const Context& context, const ModelConfig& config, Dtype compute_dtype,
            WeightUse use = WeightUse::training, std::optional<Dtype> matrices = std::nullopt);
    /// The device memory of such weights, known before they are made.
    static size_t bytes(const ParameterTable& table, Dtype compute_dtype, WeightUse use,
                        std::optional<Dtype> matrices = std::nullopt);

    const ParameterTable& table() const { return table_; }
    Dtype compute_dtype() const { return compute_dtype_; }
    Dtype master_dtype() const { return accumulation_dtype(compute_dtype_); }
    Dtype matrix_dtype() const { return matrices_ ? matrices_->dtype() : compute_dtype_; }
    bool has_master() const { return use_ == WeightUse::training || !(is_narrow() || matrices_); }

    /// The master weights. They exist unless !has_master().
    Tensor master_flat() const { return master_.flat(); }
    /// Absent when the ops compute with the master weights.
    Tensor compute_flat() const { return is_narrow() ? compute_.flat() : Tensor{}; }
    Tensor master(const ParameterRow& row) const { return master_.of(row); }
    /// A row in the compute dtype; not for narrow matrices.
    Tensor compute(const ParameterRow& row) const { return has_compute() ? compute_.of(row) : master_.of(row); }
    /// A row, or joined rows, as products read it. A narrower matrix comes with its scales.
    ops::LinearWeight stored(const ParameterRow& row) const {
        return is_matrix(row) ? matrices_->of(row) : ops::LinearWeight{compute(row), {}};
    }
    /// A row that ops read in the accumulation dtype: sink logits.
    Tensor accumulated(const ParameterRow& row) const;
    /// A parameter's values on the host, at the highest precision that is stored.
    std::vector<float> read(const Context& context, const ParameterRow& row) const;

    /// Draws every parameter from its own counter-based stream, keyed by (seed, name). So variants share all common
    /// weights.
    void initialise(Context& context, uint64_t seed);
    /// Updates the compute copy after the master weights were written outside the optimiser.
    void refresh_compute(Context& context);

    /// Writes a parameter's weights. Call refresh_compute() when all are written.
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
