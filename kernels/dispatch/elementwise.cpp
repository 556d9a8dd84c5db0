#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {

void add(Context& context, const Tensor& out, const Tensor& a, const Tensor& b, const Tensor& c) {
    expect_compute(out.dtype);
    for (const Tensor* t : {&out, &a, &b, &c}) {
        if (t == &c && c.empty()) continue;
        require(t->dtype == out.dtype && t->numel() == out.numel() && t->is_contiguous(),
                "add needs equal, contiguous tensors");
    }
    run<cpu::add, cuda::add>(context, out, a, b, c);
}

void cast(Context& context, const Tensor& out, const Tensor& in) {
    expect_compute(out.dtype);
    expect_compute(in.dtype);
    require(out.numel() == in.numel() && out.is_contiguous() && in.is_contiguous(),
            "cast needs equal sizes, contiguous");
    run<cpu::cast, cuda::cast>(context, out, in);
}

void copy(Context& context, const Tensor& out, const Tensor& in) {
    require(out.dtype == in.dtype && out.rank == in.rank && out.shape == in.shape,
            "copy needs equal shapes and dtypes");
    const auto last = static_cast<size_t>(std::max(out.rank - 1, 0));
    require(out.rank == 0 || out.shape[last] == 1 || (out.stride[last] == 1 && in.stride[last] == 1),
            "copy needs a contiguous last dimension");
    run<cpu::copy, cuda::copy>(context, out, in);
}

void sum(Context& context, const Tensor& out, const Tensor& x) {
    expect_dense(out, "out", Dtype::f64, {1});
    require(x.dtype == accumulation_dtype(x.dtype) && x.is_contiguous(), "sum needs a contiguous f32 or f64 tensor");
    run<cpu::sum, cuda::sum>(context, out, x);
}

namespace {

/// `limit` as x's dtype holds it, after x and the other operands were found to be alike.
double checked_limit(double limit, const Tensor& x, std::initializer_list<const Tensor*> others) {
    expect_compute(x.dtype);
    for (const Tensor* t : others)
        require(t->dtype == x.dtype && t->numel() == x.numel() && t->is_contiguous() && x.is_contiguous(),
                "clamp needs equal, contiguous tensors");
    require(limit >= 0, "clamp needs a limit that is not negative");
    switch (x.dtype) {
        case Dtype::f64: return limit;
        case Dtype::bf16: return static_cast<float>(bf16(static_cast<float>(limit)));
        case Dtype::f16: return static_cast<float>(f16(static_cast<float>(limit)));
        default: return static_cast<float>(limit);
    }
}

}  // namespace

void clamp_forward(Context& context, const Tensor& out, const Tensor& x, double limit) {
    run<cpu::clamp_forward, cuda::clamp_forward>(context, out, x, checked_limit(limit, x, {&out}));
}

void clamp_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& x, double limit) {
    run<cpu::clamp_backward, cuda::clamp_backward>(context, d_x, d_out, x, checked_limit(limit, x, {&d_x, &d_out}));
}

}  // namespace ballast::ops
