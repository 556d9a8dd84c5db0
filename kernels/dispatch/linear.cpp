#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

/// x or acc: what linear layers accept for their outputs.
Dtype output_dtype(const Tensor& tensor, Dtype x) { return tensor.dtype == accumulation_dtype(x) ? tensor.dtype : x; }

/// w [O,I] of a product with x operands.
void expect_weight(const LinearWeight& w, Dtype x, int64_t O, int64_t I) {
    expect_readable_weight(w.weight, w.scale, x, O, I);
    if (!w.bias.empty()) expect_dense(w.bias, "bias", x, {O});
}

}  // namespace

void linear_forward(Context& context, const Tensor& out, const Tensor& x, const LinearWeight& weight,
                    Products products) {
    expect_compute(x.dtype);
    const int64_t N = x.dim(0), I = x.dim(1), O = out.dim(1);
    expect_dense(x, "x", x.dtype, {N, I});
    expect_weight(weight, x.dtype, O, I);
    expect_dense(out, "out", output_dtype(out, x.dtype), {N, O});
    run<cpu::linear_forward, cuda::linear_forward>(context, out, x, weight, products);
}

void linear_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                     const Tensor& d_out, const Tensor& x, const Tensor& weight) {
    expect_compute(x.dtype);
    const Dtype acc = accumulation_dtype(x.dtype);
    const int64_t N = x.dim(0), I = x.dim(1), O = weight.dim(0);
    expect_dense(x, "x", x.dtype, {N, I});
    expect_dense(weight, "weight", x.dtype, {O, I});
    expect_dense(d_out, "d_out", output_dtype(d_out, x.dtype), {N, O});
    if (!d_weight.empty()) expect_dense(d_weight, "d_weight", acc, {O, I});
    if (!d_x.empty()) expect_dense(d_x, "d_x", x.dtype, {N, I});
    if (!d_bias.empty()) expect_dense(d_bias, "d_bias", acc, {O});
    run<cpu::linear_backward, cuda::linear_backward>(context, d_x, d_weight, d_bias, d_out, x, weight);
}

Dtype product_dtype(const Context& context, Dtype x) {
    return run<cpu::product_dtype, cuda::product_dtype>(context, x);
}

size_t linear_scratch_bytes(const Context& context, Dtype x, Dtype weight, int64_t rows, int64_t outputs,
                            int64_t inputs, Products products) {
    return run<cpu::linear_scratch_bytes, cuda::linear_scratch_bytes>(context, x, weight, rows, outputs, inputs,
                                                                      products);
}

void linear_gelu_forward(Context& context, const Tensor& out, const Tensor& pre, const Tensor& x,
                         const LinearWeight& weight, Gelu kind, Products products) {
    expect_compute(x.dtype);
    const int64_t N = x.dim(0), I = x.dim(1), F = out.dim(1);
    expect_dense(x, "x", x.dtype, {N, I});
    expect_weight(weight, x.dtype, F, I);
    expect_dense(pre, "pre", x.dtype, {N, F});
    expect_dense(out, "out", x.dtype, {N, F});
    run<cpu::linear_gelu_forward, cuda::linear_gelu_forward>(context, out, pre, x, weight, kind, products);
}

void gelu_linear_backward(Context& context, const Tensor& d_pre, const Tensor& d_weight, const Tensor& d_bias,
                          const Tensor& d_out, const Tensor& hidden, const Tensor& pre, const Tensor& weight,
                          Gelu kind) {
    expect_compute(pre.dtype);
    const Dtype acc = accumulation_dtype(pre.dtype);
    const int64_t N = pre.dim(0), F = pre.dim(1), O = weight.dim(0);
    for (const auto& [tensor, name] : {std::pair{&pre, "pre"}, {&hidden, "hidden"}, {&d_pre, "d_pre"}})
        expect_dense(*tensor, name, pre.dtype, {N, F});
    expect_dense(d_out, "d_out", pre.dtype, {N, O});
    expect_dense(weight, "weight", pre.dtype, {O, F});
    if (!d_weight.empty()) expect_dense(d_weight, "d_weight", acc, {O, F});
    if (!d_bias.empty()) expect_dense(d_bias, "d_bias", acc, {O});
    run<cpu::gelu_linear_backward, cuda::gelu_linear_backward>(context, d_pre, d_weight, d_bias, d_out, hidden, pre,
                                                               weight, kind);
}

void swiglu_forward(Context& context, const Tensor& out, const Tensor& gate_up) {
    expect_compute(out.dtype);
    const int64_t N = out.dim(0), F = out.dim(1);
    expect_dense(out, "out", out.dtype, {N, F});
    expect_dense(gate_up, "gate_up", out.dtype, {N, 2 * F});
    run<cpu::swiglu_forward, cuda::swiglu_forward>(context, out, gate_up);
}

void swiglu_backward(Context& context, const Tensor& d_gate_up, const Tensor& d_out, const Tensor& gate_up) {
    expect_compute(d_out.dtype);
    const int64_t N = d_out.dim(0), F = d_out.dim(1);
    expect_dense(d_out, "d_out", d_out.dtype, {N, F});
    expect_dense(gate_up, "gate_up", d_out.dtype, {N, 2 * F});
    expect_dense(d_gate_up, "d_gate_up", d_out.dtype, {N, 2 * F});
    run<cpu::swiglu_backward, cuda::swiglu_backward>(context, d_gate_up, d_out, gate_up);
}

void linear_cross_entropy(Context& context, const Tensor& losses, const Tensor& d_x, const Tensor& d_weight,
                          const Tensor& x, const LinearWeight& weight, const Tensor& targets, double loss_factor,
                          const StepScalarsTensor& scalars) {
    expect_compute(x.dtype);
    const Dtype acc = accumulation_dtype(x.dtype);
    const int64_t N = x.dim(0), C = x.dim(1), V = weight.weight.dim(0);
    expect_dense(x, "x", x.dtype, {N, C});
    expect_weight(weight, x.dtype, V, C);
    require(weight.bias.empty(), "a head with a bias");
    expect_dense(targets, "targets", Dtype::i32, {N});
    expect_dense(losses, "losses", acc, {N});
    require(!d_x.empty() || d_weight.empty(), "d_weight comes with d_x");
    require(d_x.empty() || weight.weight.dtype == x.dtype, "gradients through weights that are for reading alone");
    if (!d_x.empty()) expect_dense(d_x, "d_x", x.dtype, {N, C});
    if (!d_weight.empty()) expect_dense(d_weight, "d_weight", acc, {V, C});
    if (!scalars.empty()) expect_scalars(scalars);
    run<cpu::linear_cross_entropy, cuda::linear_cross_entropy>(context, losses, d_x, d_weight, x, weight, targets,
                                                               loss_factor, scalars);
}

size_t linear_cross_entropy_scratch_bytes(const Context& context, Dtype x, Dtype weight, int64_t rows,
                                          int64_t vocabulary, int64_t channels) {
    return run<cpu::linear_cross_entropy_scratch_bytes, cuda::linear_cross_entropy_scratch_bytes>(
        context, x, weight, rows, vocabulary, channels);
}

}  // namespace ballast::ops
