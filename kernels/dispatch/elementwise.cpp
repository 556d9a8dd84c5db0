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

}  // namespace ballast::ops
