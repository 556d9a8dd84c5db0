#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

void check_rope(const Tensor& like, const Tensor& table, Positions positions) {
    expect_compute(like.dtype);
    require(like.rank == 4, "rope works on [B,T,H,D]");
    if (table.empty()) return;
    const int64_t rotated = table.dim(1);
    expect_dense(table, "table", accumulation_dtype(like.dtype), {table.dim(0), rotated});
    require(rotated % 2 == 0 && rotated <= like.dim(3), "the rotated dims must be even and fit the head");
    const int64_t steps = like.dim(1);
    if (steps == 0) return;
    require(0 <= positions.first && 0 <= positions.last && positions.first <= INT64_MAX - steps, "negative position");
    require(std::min(positions.first + steps - 1, positions.last) < table.dim(0),
            "a position is beyond the rope table");
}

void check_qkv(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv, const Tensor& table,
               Positions positions) {
    check_rope(q, table, positions);
    const int64_t B = q.dim(0), T = q.dim(1), H = q.dim(2), D = q.dim(3);
    for (const Tensor* part : {&q, &k, &v}) expect_rows(*part, "q, k or v", qkv.dtype, {B, T, H, D});
    expect_dense(qkv, "qkv", q.dtype, {B, T, 3 * H * D});
}

}  // namespace

void rope_table(Context& context, const Tensor& table, double base) {
    expect_dense(table, "table", accumulation_dtype(table.dtype), {table.dim(0), table.dim(1)});
    require(table.dim(1) % 2 == 0, "the rotated dims must be even");
    run<cpu::rope_table, cuda::rope_table>(context, table, base);
}

void rope_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& table, Positions positions) {
    check_rope(x, table, positions);
    expect_rows(x, "x", x.dtype, {x.dim(0), x.dim(1), x.dim(2), x.dim(3)});
    expect_rows(out, "out", x.dtype, {x.dim(0), x.dim(1), x.dim(2), x.dim(3)});
    run<cpu::rope_forward, cuda::rope_forward>(context, out, x, table, positions);
}

void rope_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& table, Positions positions) {
    check_rope(d_x, table, positions);
    expect_rows(d_x, "d_x", d_x.dtype, {d_x.dim(0), d_x.dim(1), d_x.dim(2), d_x.dim(3)});
    expect_rows(d_out, "d_out", d_x.dtype, {d_x.dim(0), d_x.dim(1), d_x.dim(2), d_x.dim(3)});
    run<cpu::rope_backward, cuda::rope_backward>(context, d_x, d_out, table, positions);
}

void qkv_split_rope_forward(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv,
                            const Tensor& table, Positions positions) {
    check_qkv(q, k, v, qkv, table, positions);
    run<cpu::qkv_split_rope_forward, cuda::qkv_split_rope_forward>(context, q, k, v, qkv, table, positions);
}

void qkv_split_rope_backward(Context& context, const Tensor& d_qkv, const Tensor& d_q, const Tensor& d_k,
                             const Tensor& d_v, const Tensor& table, Positions positions) {
    check_qkv(d_q, d_k, d_v, d_qkv, table, positions);
    run<cpu::qkv_split_rope_backward, cuda::qkv_split_rope_backward>(context, d_qkv, d_q, d_k, d_v, table, positions);
}

}  // namespace ballast::ops
