#include "kernels/dispatch/dispatch.h"

namespace ballast::ops {
namespace {

void check_rope(const Tensor& like, const Tensor& table, const Positions& positions) {
    expect_compute(like.dtype);
    require(like.rank == 4, "rope works on [B,T,H,D]");
    if (table.empty()) return;
    const int64_t rotated = table.dim(1), batch = like.dim(0), steps = like.dim(1);
    expect_dense(table, "table", accumulation_dtype(like.dtype), {table.dim(0), rotated});
    require(rotated % 2 == 0 && rotated <= like.dim(3), "the rotated dims must be even and fit the head");
    if (steps == 0) return;
    require(0 <= positions.first && 0 <= positions.last && positions.first <= INT64_MAX - steps, "negative position");
    if (!positions.rows.empty())  // what they hold only the device can see
        return expect_dense(positions.rows, "positions", Dtype::i32, {batch, steps});
    require(std::min(positions.first + steps - 1, positions.last) < table.dim(0),
            "a position is beyond the rope table");
}

/// The heads of a tensor and their width.
void expect_heads(const Tensor& x, const char* name, const Tensor& like, int64_t heads) {
    expect_rows(x, name, like.dtype, {like.dim(0), like.dim(1), heads, like.dim(3)});
}

void check_qkv(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv, const Tensor& table,
               const Positions& positions) {
    check_rope(q, table, positions);
    require(k.rank == 4, "keys are [B,T,G,D]");
    const int64_t B = q.dim(0), T = q.dim(1), H = q.dim(2), D = q.dim(3), G = k.dim(2);
    require(G >= 1 && H % G == 0, "heads must be a multiple of key-value heads");
    expect_heads(q, "q", q, H);
    expect_heads(k, "k", q, G);
    expect_heads(v, "v", q, G);
    expect_dense(qkv, "qkv", q.dtype, {B, T, (H + 2 * G) * D});
}

}  // namespace

void rope_table(Context& context, const Tensor& table, std::span<const double> inv_freq, double attention_factor) {
    expect_dense(table, "table", accumulation_dtype(table.dtype), {table.dim(0), table.dim(1)});
    require(table.dim(1) == 2 * static_cast<int64_t>(inv_freq.size()),
            "a rope table has a frequency for two rotated dims");
    run<cpu::rope_table, cuda::rope_table>(context, table, inv_freq, attention_factor);
}

void rope_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& table,
                  const Positions& positions) {
    check_rope(x, table, positions);
    expect_heads(x, "x", x, x.dim(2));
    expect_heads(out, "out", x, x.dim(2));
    run<cpu::rope_forward, cuda::rope_forward>(context, out, x, table, positions);
}

void rope_backward(Context& context, const Tensor& d_x, const Tensor& d_out, const Tensor& table,
                   const Positions& positions) {
    check_rope(d_x, table, positions);
    expect_heads(d_x, "d_x", d_x, d_x.dim(2));
    expect_heads(d_out, "d_out", d_x, d_x.dim(2));
    run<cpu::rope_backward, cuda::rope_backward>(context, d_x, d_out, table, positions);
}

void qkv_split_rope_forward(Context& context, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& qkv,
                            const Tensor& table, const Positions& positions, QkvLayout layout) {
    check_qkv(q, k, v, qkv, table, positions);
    run<cpu::qkv_split_rope_forward, cuda::qkv_split_rope_forward>(context, q, k, v, qkv, table, positions, layout);
}

void qkv_split_rope_backward(Context& context, const Tensor& d_qkv, const Tensor& d_q, const Tensor& d_k,
                             const Tensor& d_v, const Tensor& table, const Positions& positions, QkvLayout layout) {
    check_qkv(d_q, d_k, d_v, d_qkv, table, positions);
    run<cpu::qkv_split_rope_backward, cuda::qkv_split_rope_backward>(context, d_qkv, d_q, d_k, d_v, table, positions,
                                                                     layout);
}

}  // namespace ballast::ops
