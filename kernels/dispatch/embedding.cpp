#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {

void embedding_forward(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids,
                       const Tensor& scale) {
    expect_compute(out.dtype);
    expect_dense(ids, "ids", Dtype::i32, {ids.dim(0)});
    expect_dense(out, "out", out.dtype, {ids.dim(0), weight.dim(1)});
    expect_readable_weight(weight, scale, out.dtype, weight.dim(0), weight.dim(1));
    run<cpu::embedding_forward, cuda::embedding_forward>(context, out, weight, ids, scale);
}

void embedding_backward(Context& context, const Tensor& d_weight, const Tensor& d_out, const Tensor& ids) {
    expect_compute(d_out.dtype);
    expect_dense(ids, "ids", Dtype::i32, {ids.dim(0)});
    expect_dense(d_out, "d_out", d_out.dtype, {ids.dim(0), d_weight.dim(1)});
    expect_dense(d_weight, "d_weight", accumulation_dtype(d_out.dtype), {d_weight.dim(0), d_weight.dim(1)});
    run<cpu::embedding_backward, cuda::embedding_backward>(context, d_weight, d_out, ids);
}

size_t embedding_backward_scratch_bytes(const Context& context, Dtype x, int64_t rows, int64_t channels) {
    return run<cpu::embedding_backward_scratch_bytes, cuda::embedding_backward_scratch_bytes>(context, x, rows,
                                                                                              channels);
}

}  // namespace ballast::ops
