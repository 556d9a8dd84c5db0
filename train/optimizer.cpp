#include "train/optimizer.h"

#include <cmath>

namespace ballast::train {

Optimizer::Optimizer(Context& context, const model::Weights& weights, const ops::AdamW& options, double clip_norm)
    : context_(context),
      options_(options),
      clip_norm_(clip_norm),
      parameters_(context, weights.table().spans()),
      gradients_(context, weights.table(), weights.master_dtype()),
      m_(context, weights.table(), weights.master_dtype()),
      v_(context, weights.table(), weights.master_dtype()),
      scalars_buffer_(context.allocate(sizeof(ops::StepScalars))),
      norms_buffer_(context.allocate(parameters_.spans().size() * sizeof(double))),
      scalars_(scalars_buffer_.data(), Dtype::u8, {static_cast<int64_t>(sizeof(ops::StepScalars))}),
      sum_of_squares_(norms_buffer_.data(), Dtype::f64, {static_cast<int64_t>(parameters_.spans().size())}) {}

size_t Optimizer::bytes(const model::ParameterTable& table, Dtype compute_dtype) {
    return 3 * static_cast<size_t>(table.flat_size()) * size_of(accumulation_dtype(compute_dtype));
}

void Optimizer::begin(int64_t update, double learning_rate, double loss_scale) {
    const ops::StepScalars scalars{.learning_rate = learning_rate, .step = update, .loss_scale = loss_scale};
    context_.copy_from_host(scalars_, &scalars);
    context_.zero(gradients_.flat());
}

std::string Optimizer::first_non_finite(const model::ParameterTable& table) const {
    std::vector<double> sums(parameters_.spans().size());
    context_.copy_to_host(sums.data(), sum_of_squares_);
    for (size_t i = 0; i < sums.size(); ++i)
        if (!std::isfinite(sums[i])) return table.rows()[i].name;
    return "";
}

StepResult Optimizer::step(model::Weights& weights, const Tensor& losses) {
    ops::global_norm(context_, scalars_, sum_of_squares_, gradients_.flat(), parameters_, losses, clip_norm_);
    ops::adamw(context_, weights.master_flat(), weights.compute_flat(), m_.flat(), v_.flat(), gradients_.flat(),
               parameters_, scalars_, options_);
    ops::StepScalars scalars;
    context_.copy_to_host(&scalars, scalars_);
    StepResult result{scalars.grad_norm, scalars.non_finite == 0, ""};
    if (!result.applied) result.non_finite_parameter = first_non_finite(weights.table());
    return result;
}

}  // namespace ballast::train
