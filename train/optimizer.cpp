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
      host_scalars_(context.device(), sizeof(ops::StepScalars)),
      scalars_buffer_(context.allocate(sizeof(ops::StepScalars))),
      norms_buffer_(context.allocate(parameters_.spans().size() * sizeof(double))),
      scalars_(scalars_buffer_.data(), Dtype::u8, {static_cast<int64_t>(sizeof(ops::StepScalars))}),
      sum_of_squares_(norms_buffer_.data(), Dtype::f64, {static_cast<int64_t>(parameters_.spans().size())}) {}

size_t Optimizer::bytes(const model::ParameterTable& table, Dtype compute_dtype) {
    return 3 * static_cast<size_t>(table.flat_size()) * size_of(accumulation_dtype(compute_dtype));
}

void Optimizer::set_scalars(int64_t update, double learning_rate, double loss_scale) {
    host_scalars_.as<ops::StepScalars>()[0] = {
        .learning_rate = learning_rate, .step = update, .loss_scale = loss_scale};
}

void Optimizer::queue_begin() {
    context_.queue_copy_from_host(scalars_, host_scalars_.as<ops::StepScalars>());
    context_.zero(gradients_.flat());
}

void Optimizer::queue_update(model::Weights& weights, const Tensor& losses) {
    ops::sums_of_squares(context_, sum_of_squares_, gradients_.flat(), parameters_);
    ops::global_norm(context_, scalars_, sum_of_squares_, losses, clip_norm_);
    ops::adamw(context_, weights.master_flat(), weights.compute_flat(), m_.flat(), v_.flat(), gradients_.flat(),
               parameters_, scalars_, options_);
    context_.queue_copy_to_host(host_scalars_.as<ops::StepScalars>(), scalars_);
}

StepResult Optimizer::result(const model::Weights& weights) const {
    const ops::StepScalars& scalars = host_scalars_.as<ops::StepScalars>()[0];
    StepResult result{scalars.grad_norm, scalars.non_finite == 0, ""};
    if (!result.applied) result.non_finite_parameter = first_non_finite(weights.table());
    return result;
}

void Optimizer::begin(int64_t update, double learning_rate, double loss_scale) {
    set_scalars(update, learning_rate, loss_scale);
    queue_begin();
}

StepResult Optimizer::step(model::Weights& weights, const Tensor& losses) {
    queue_update(weights, losses);
    context_.synchronise();
    return result(weights);
}

std::string Optimizer::first_non_finite(const model::ParameterTable& table) const {
    std::vector<double> sums(parameters_.spans().size());
    context_.copy_to_host(sums.data(), sum_of_squares_);
    for (size_t i = 0; i < sums.size(); ++i)
        if (!std::isfinite(sums[i])) return table.rows()[i].name;
    return "";
}

}  // namespace ballast::train
