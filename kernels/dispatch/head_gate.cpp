#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

void check_gate(const Tensor& x, const Tensor& gate, std::initializer_list<const Tensor*> like_x) {
    expect_compute(x.dtype);
    require(x.rank == 4, "a head's gate works on [B,T,H,D]");
    const int64_t B = x.dim(0), T = x.dim(1), H = x.dim(2), D = x.dim(3);
    expect_dense(x, "x", x.dtype, {B, T, H, D});
    expect_dense(gate, "gate", x.dtype, {B, T, H});
    for (const Tensor* t : like_x) expect_dense(*t, "out", x.dtype, {B, T, H, D});
}

}  // namespace

void head_gate_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& gate) {
    check_gate(x, gate, {&out});
    run<cpu::head_gate_forward, cuda::head_gate_forward>(context, out, x, gate);
}

void head_gate_backward(Context& context, const Tensor& d_x, const Tensor& d_gate, const Tensor& d_out, const Tensor& x,
                        const Tensor& gate) {
    check_gate(x, gate, {&d_x, &d_out});
    expect_dense(d_gate, "d_gate", x.dtype, {x.dim(0), x.dim(1), x.dim(2)});
    run<cpu::head_gate_backward, cuda::head_gate_backward>(context, d_x, d_gate, d_out, x, gate);
}

}  // namespace ballast::ops
