#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

/// y = a + b + c, where y is absent exactly when there is nothing to add.
void check_residual(const Tensor& y, const Tensor& a, const Tensor& b, const Tensor& c) {
    const int64_t N = a.dim(0), C = a.dim(1);
    require(y.empty() == b.empty() && (c.empty() || !b.empty()), "y comes exactly with b, and c after b");
    for (const auto& [tensor, name] : {std::pair{&a, "a"}, {&b, "b"}, {&c, "c"}, {&y, "y"}})
        if (!tensor->empty()) expect_dense(*tensor, name, a.dtype, {N, C});
}

}  // namespace

void residual_layernorm_forward(Context& context, const Tensor& y, std::span<const LayerNormOutput> norms,
                                const Tensor& mean, const Tensor& rstd, const Tensor& a, const Tensor& b,
                                const Tensor& c, double eps) {
    expect_compute(a.dtype);
    const Dtype acc = accumulation_dtype(a.dtype);
    const int64_t N = a.dim(0), C = a.dim(1);
    check_residual(y, a, b, c);
    require(norms.size() == 1 || norms.size() == 2, "one or two norms of a residual stream");
    for (const LayerNormOutput& norm : norms) {
        expect_dense(norm.out_NC, "out", a.dtype, {N, C});
        expect_dense(norm.weight_C, "weight", a.dtype, {C});
        expect_dense(norm.bias_C, "bias", a.dtype, {C});
    }
    expect_dense(mean, "mean", acc, {N});
    expect_dense(rstd, "rstd", acc, {N});
    run<cpu::residual_layernorm_forward, cuda::residual_layernorm_forward>(context, y, norms, mean, rstd, a, b, c, eps);
}

void layernorm_backward(Context& context, const Tensor& d_y, std::span<const LayerNormGradient> norms, const Tensor& y,
                        const Tensor& mean, const Tensor& rstd) {
    expect_compute(y.dtype);
    const Dtype acc = accumulation_dtype(y.dtype);
    const int64_t N = y.dim(0), C = y.dim(1);
    require(norms.size() == 1 || norms.size() == 2, "one or two norms of a residual stream");
    for (const LayerNormGradient& norm : norms) {
        expect_dense(norm.d_out_NC, "d_out", y.dtype, {N, C});
        expect_dense(norm.weight_C, "weight", y.dtype, {C});
        expect_dense(norm.d_weight_C, "d_weight", acc, {C});
        expect_dense(norm.d_bias_C, "d_bias", acc, {C});
    }
    expect_dense(y, "y", y.dtype, {N, C});
    expect_dense(d_y, "d_y", y.dtype, {N, C});
    expect_dense(mean, "mean", acc, {N});
    expect_dense(rstd, "rstd", acc, {N});
    run<cpu::layernorm_backward, cuda::layernorm_backward>(context, d_y, norms, y, mean, rstd);
}

void residual_rmsnorm_forward(Context& context, const Tensor& y, const Tensor& out, const Tensor& rstd, const Tensor& a,
                              const Tensor& b, const Tensor& weight, double eps) {
    expect_compute(a.dtype);
    const int64_t N = a.dim(0), C = a.dim(1);
    check_residual(y, a, b, Tensor{});
    expect_dense(out, "out", a.dtype, {N, C});
    expect_dense(weight, "weight", a.dtype, {C});
    expect_dense(rstd, "rstd", accumulation_dtype(a.dtype), {N});
    run<cpu::residual_rmsnorm_forward, cuda::residual_rmsnorm_forward>(context, y, out, rstd, a, b, weight, eps);
}

void rmsnorm_backward(Context& context, const Tensor& d_y, const Tensor& d_weight, const Tensor& d_out, const Tensor& y,
                      const Tensor& weight, const Tensor& rstd) {
    expect_compute(y.dtype);
    const Dtype acc = accumulation_dtype(y.dtype);
    const int64_t N = y.dim(0), C = y.dim(1);
    expect_dense(y, "y", y.dtype, {N, C});
    expect_dense(d_y, "d_y", y.dtype, {N, C});
    expect_dense(d_out, "d_out", y.dtype, {N, C});
    expect_dense(weight, "weight", y.dtype, {C});
    expect_dense(rstd, "rstd", acc, {N});
    expect_dense(d_weight, "d_weight", acc, {C});
    run<cpu::rmsnorm_backward, cuda::rmsnorm_backward>(context, d_y, d_weight, d_out, y, weight, rstd);
}

}  // namespace ballast::ops
