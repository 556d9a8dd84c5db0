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

void residual_norm_forward(Context& context, const Tensor& y, std::span<const NormOutput> norms, const Tensor& mean,
                           const Tensor& rstd, const Tensor& a, const Tensor& b, const Tensor& c, double eps) {
    expect_compute(a.dtype);
    const Dtype acc = accumulation_dtype(a.dtype);
    const int64_t N = a.dim(0), C = a.dim(1);
    check_residual(y, a, b, c);
    require(norms.size() == 1 || norms.size() == 2, "one or two norms of a residual stream");
    for (const NormOutput& norm : norms) {
        expect_dense(norm.out_NC, "out", a.dtype, {N, C});
        expect_dense(norm.weight_C, "weight", a.dtype, {C});
        if (!norm.bias_C.empty()) expect_dense(norm.bias_C, "bias", a.dtype, {C});
    }
    if (!mean.empty()) expect_dense(mean, "mean", acc, {N});
    expect_dense(rstd, "rstd", acc, {N});
    run<cpu::residual_norm_forward, cuda::residual_norm_forward>(context, y, norms, mean, rstd, a, b, c, eps);
}

void norm_backward(Context& context, const Tensor& d_y, std::span<const NormGradient> norms, const Tensor& y,
                   const Tensor& mean, const Tensor& rstd) {
    expect_compute(y.dtype);
    const Dtype acc = accumulation_dtype(y.dtype);
    const int64_t N = y.dim(0), C = y.dim(1);
    require(norms.size() == 1 || norms.size() == 2, "one or two norms of a residual stream");
    for (const NormGradient& norm : norms) {
        expect_dense(norm.d_out_NC, "d_out", y.dtype, {N, C});
        expect_dense(norm.weight_C, "weight", y.dtype, {C});
        if (!norm.d_weight_C.empty()) expect_dense(norm.d_weight_C, "d_weight", acc, {C});
        if (!norm.d_bias_C.empty()) expect_dense(norm.d_bias_C, "d_bias", acc, {C});
    }
    expect_dense(y, "y", y.dtype, {N, C});
    expect_dense(d_y, "d_y", y.dtype, {N, C});
    if (!mean.empty()) expect_dense(mean, "mean", acc, {N});
    expect_dense(rstd, "rstd", acc, {N});
    run<cpu::norm_backward, cuda::norm_backward>(context, d_y, norms, y, mean, rstd);
}

}  // namespace ballast::ops
