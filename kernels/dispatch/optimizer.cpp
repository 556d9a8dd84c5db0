#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {

ParameterSet::ParameterSet(Context& context, std::vector<ParameterSpan> spans)
    : spans_(std::move(spans)),
      table_(run<cpu::parameter_table, cuda::parameter_table>(context, std::span<const ParameterSpan>(spans_))) {}

void sums_of_squares(Context& context, const Tensor& sum_of_squares, const Tensor& gradients,
                     const ParameterSet& parameters) {
    expect_dense(sum_of_squares, "sum_of_squares", Dtype::f64, {static_cast<int64_t>(parameters.spans().size())});
    expect_dense(gradients, "gradients", accumulation_dtype(gradients.dtype), {gradients.dim(0)});
    run<cpu::sums_of_squares, cuda::sums_of_squares>(context, sum_of_squares, gradients, parameters);
}

void global_norm(Context& context, const StepScalarsTensor& scalars, const Tensor& sum_of_squares, const Tensor& losses,
                 double clip_norm) {
    expect_scalars(scalars);
    expect_dense(sum_of_squares, "sum_of_squares", Dtype::f64, {sum_of_squares.dim(0)});
    expect_dense(losses, "losses", Dtype::f64, {losses.dim(0)});
    run<cpu::global_norm, cuda::global_norm>(context, scalars, sum_of_squares, losses, clip_norm);
}

void adamw(Context& context, const Tensor& master, const Tensor& compute, const Tensor& m, const Tensor& v,
           const Tensor& gradients, const ParameterSet& parameters, const StepScalarsTensor& scalars,
           const AdamW& options) {
    const Dtype acc = accumulation_dtype(master.dtype);
    const int64_t P = master.dim(0);
    expect_dense(master, "master", acc, {P});
    expect_dense(m, "m", acc, {P});
    expect_dense(v, "v", acc, {P});
    expect_dense(gradients, "gradients", acc, {P});
    if (!compute.empty()) {
        expect_compute(compute.dtype);
        require(accumulation_dtype(compute.dtype) == acc, "the compute weights have the wrong dtype");
        expect_dense(compute, "compute", compute.dtype, {P});
    }
    expect_scalars(scalars);
    run<cpu::adamw, cuda::adamw>(context, master, compute, m, v, gradients, parameters, scalars, options);
}

}  // namespace ballast::ops
