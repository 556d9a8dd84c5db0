// ops:: -> the context's device. Shapes and dtypes are checked here, once for every device.
#include "kernels/cpu/ops.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/runtime.h"
#include "kernels/ops.h"

#include <fmt/format.h>

namespace ballast::ops {
namespace {

constexpr int64_t kMaxHeadDim = 256;

#if defined(BALLAST_CUDA) || defined(BALLAST_SIMT)
constexpr bool kHasGpu = true;
#else
constexpr bool kHasGpu = false;  // cuda:: is declared and nowhere defined
#endif

/// Tensors for a GPU are in its memory.
[[maybe_unused]] void expect_reachable(const Tensor& tensor) {
    if (!tensor.empty() && tensor.numel() > 0)
        require(cuda::is_reachable(tensor.data), "a GPU op on the host's memory");
}
[[maybe_unused]] void expect_reachable(const AttentionInputs& in) {
    for (const Tensor* t : {&in.q, &in.k, &in.v, &in.sink_query}) expect_reachable(*t);
}
[[maybe_unused]] void expect_reachable(const AttentionParams& p) {
    for (const Tensor* t : {&p.sink_logit_H, &p.alibi_slope_H, &p.mask.span_H}) expect_reachable(*t);
}
[[maybe_unused]] void expect_reachable(const AttentionGradients& d) {
    for (const Tensor* t : {&d.d_q, &d.d_k, &d.d_v, &d.d_sink_query, &d.d_sink_logit_H}) expect_reachable(*t);
}
[[maybe_unused]] void expect_reachable(std::span<const LayerNormOutput> norms) {
    for (const LayerNormOutput& norm : norms)
        for (const Tensor* t : {&norm.out_NC, &norm.weight_C, &norm.bias_C}) expect_reachable(*t);
}
[[maybe_unused]] void expect_reachable(std::span<const LayerNormGradient> norms) {
    for (const LayerNormGradient& norm : norms)
        for (const Tensor* t : {&norm.d_out_NC, &norm.weight_C, &norm.d_weight_C, &norm.d_bias_C}) expect_reachable(*t);
}
template <class NoTensor>
void expect_reachable(const NoTensor&) {}

/// Calls the implementation for the context's device.
template <auto cpu_function, auto gpu_function, class Context, class... Arguments>
auto run(Context& context, const Arguments&... arguments) {
    if constexpr (kHasGpu) {
        if (context.device() != Device::cpu) {
            (expect_reachable(arguments), ...);
            return gpu_function(context, arguments...);
        }
    }
    return cpu_function(context, arguments...);
}

/// `tensor` must have this dtype and shape.
void expect(const Tensor& tensor, const char* name, Dtype dtype, std::initializer_list<int64_t> shape,
            std::source_location where = std::source_location::current()) {
    bool ok = !tensor.empty() && tensor.dtype == dtype && tensor.rank == static_cast<int>(shape.size());
    for (int i = 0; ok && i < tensor.rank; ++i) ok = tensor.dim(i) == shape.begin()[i];
    if (ok) return;
    std::string dims;
    for (int64_t extent : shape) dims += fmt::format("{}{}", dims.empty() ? "" : ", ", extent);
    require(false,
            fmt::format("{} is {} but should be {}[{}]", name, tensor.empty() ? "absent" : tensor.describe(),
                        name_of(dtype), dims),
            where);
}

/// … and be contiguous.
void expect_dense(const Tensor& tensor, const char* name, Dtype dtype, std::initializer_list<int64_t> shape,
                  std::source_location where = std::source_location::current()) {
    expect(tensor, name, dtype, shape, where);
    if (!tensor.is_contiguous()) require(false, fmt::format("{} is not contiguous", name), where);
}

/// … and have a contiguous last dimension.
void expect_rows(const Tensor& tensor, const char* name, Dtype dtype, std::initializer_list<int64_t> shape,
                 std::source_location where = std::source_location::current()) {
    expect(tensor, name, dtype, shape, where);
    const bool ok = tensor.stride[static_cast<size_t>(tensor.rank - 1)] == 1 || tensor.dim(-1) == 1;
    if (!ok) require(false, fmt::format("{} has a strided last dimension", name), where);
}

/// x or acc: what linear layers accept for their outputs.
Dtype output_dtype(const Tensor& tensor, Dtype x) { return tensor.dtype == accumulation_dtype(x) ? tensor.dtype : x; }

void expect_compute(Dtype dtype) {
    require(dtype == Dtype::f32 || is_narrow(dtype) || dtype == Dtype::f64, "not a compute dtype");
}

void expect_scalars(const StepScalarsTensor& scalars) {
    expect_dense(scalars, "scalars", Dtype::u8, {static_cast<int64_t>(sizeof(StepScalars))});
}

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

void check_attention(const AttentionInputs& in, const AttentionParams& params, const Tensor& lse) {
    expect_compute(in.q.dtype);
    require(in.q.rank == 4 && in.k.rank == 4, "attention works on [B,T,H,D] and [B,S,G,D]");
    const Dtype x = in.q.dtype, acc = accumulation_dtype(x);
    const int64_t B = in.q.dim(0), T = in.q.dim(1), H = in.q.dim(2), D = in.q.dim(3), S = in.k.dim(1), G = in.k.dim(2);
    require(D >= 1 && D <= kMaxHeadDim, "the head dim must be in [1, 256]");
    require(G >= 1 && H % G == 0, "heads must be a multiple of key-value heads");
    expect_rows(in.q, "q", x, {B, T, H, D});
    expect_rows(in.k, "k", x, {B, S, G, D});
    expect_rows(in.v, "v", x, {B, S, G, D});
    if (!in.sink_query.empty()) expect_rows(in.sink_query, "sink_query", x, {B, T, H, D});
    expect_dense(lse, "lse", acc, {B, H, T});
    if (has_learned_sink_logit(params.normaliser)) expect_dense(params.sink_logit_H, "sink_logit", acc, {H});
    if (!params.alibi_slope_H.empty()) expect_dense(params.alibi_slope_H, "alibi_slope", acc, {H});
    const AttentionMask& mask = params.mask;
    if (!mask.span_H.empty()) expect_dense(mask.span_H, "span", Dtype::i32, {H});
    require(mask.num_sink_positions >= 0 && mask.query_start >= 0, "negative position");
    require(S <= mask.num_sink_positions || mask.key_start >= mask.num_sink_positions,
            "key_start must not be below num_sink_positions");
}

/// y = a + b + c, where y is absent exactly when there is nothing to add.
void check_residual(const Tensor& y, const Tensor& a, const Tensor& b, const Tensor& c) {
    const int64_t N = a.dim(0), C = a.dim(1);
    require(y.empty() == b.empty() && (c.empty() || !b.empty()), "y comes exactly with b, and c after b");
    for (const auto& [tensor, name] : {std::pair{&a, "a"}, {&b, "b"}, {&c, "c"}, {&y, "y"}})
        if (!tensor->empty()) expect_dense(*tensor, name, a.dtype, {N, C});
}

}  // namespace

void embedding_forward(Context& context, const Tensor& out, const Tensor& weight, const Tensor& ids) {
    expect_compute(weight.dtype);
    expect_dense(ids, "ids", Dtype::i32, {ids.dim(0)});
    expect_dense(out, "out", weight.dtype, {ids.dim(0), weight.dim(1)});
    expect_dense(weight, "weight", weight.dtype, {weight.dim(0), weight.dim(1)});
    run<cpu::embedding_forward, cuda::embedding_forward>(context, out, weight, ids);
}

void embedding_backward(Context& context, const Tensor& d_weight, const Tensor& d_out, const Tensor& ids) {
    expect_compute(d_out.dtype);
    expect_dense(ids, "ids", Dtype::i32, {ids.dim(0)});
    expect_dense(d_out, "d_out", d_out.dtype, {ids.dim(0), d_weight.dim(1)});
    expect_dense(d_weight, "d_weight", accumulation_dtype(d_out.dtype), {d_weight.dim(0), d_weight.dim(1)});
    run<cpu::embedding_backward, cuda::embedding_backward>(context, d_weight, d_out, ids);
}

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

void linear_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    expect_compute(x.dtype);
    const int64_t N = x.dim(0), I = x.dim(1), O = weight.dim(0);
    expect_dense(x, "x", x.dtype, {N, I});
    expect_dense(weight, "weight", x.dtype, {O, I});
    if (!bias.empty()) expect_dense(bias, "bias", x.dtype, {O});
    expect_dense(out, "out", output_dtype(out, x.dtype), {N, O});
    run<cpu::linear_forward, cuda::linear_forward>(context, out, x, weight, bias);
}

void linear_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                     const Tensor& d_out, const Tensor& x, const Tensor& weight) {
    expect_compute(x.dtype);
    const Dtype acc = accumulation_dtype(x.dtype);
    const int64_t N = x.dim(0), I = x.dim(1), O = weight.dim(0);
    expect_dense(x, "x", x.dtype, {N, I});
    expect_dense(weight, "weight", x.dtype, {O, I});
    expect_dense(d_out, "d_out", output_dtype(d_out, x.dtype), {N, O});
    expect_dense(d_weight, "d_weight", acc, {O, I});
    if (!d_x.empty()) expect_dense(d_x, "d_x", x.dtype, {N, I});
    if (!d_bias.empty()) expect_dense(d_bias, "d_bias", acc, {O});
    run<cpu::linear_backward, cuda::linear_backward>(context, d_x, d_weight, d_bias, d_out, x, weight);
}

Dtype product_dtype(const Context& context, Dtype x) {
    return run<cpu::product_dtype, cuda::product_dtype>(context, x);
}

size_t linear_scratch_bytes(const Context& context, Dtype x, int64_t rows, int64_t outputs, int64_t inputs) {
    return run<cpu::linear_scratch_bytes, cuda::linear_scratch_bytes>(context, x, rows, outputs, inputs);
}

void linear_gelu_forward(Context& context, const Tensor& out, const Tensor& pre, const Tensor& x, const Tensor& weight,
                         const Tensor& bias, Gelu kind) {
    expect_compute(x.dtype);
    const int64_t N = x.dim(0), I = x.dim(1), F = weight.dim(0);
    expect_dense(x, "x", x.dtype, {N, I});
    expect_dense(weight, "weight", x.dtype, {F, I});
    expect_dense(bias, "bias", x.dtype, {F});
    expect_dense(pre, "pre", x.dtype, {N, F});
    expect_dense(out, "out", x.dtype, {N, F});
    run<cpu::linear_gelu_forward, cuda::linear_gelu_forward>(context, out, pre, x, weight, bias, kind);
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
    expect_dense(d_weight, "d_weight", acc, {O, F});
    expect_dense(d_bias, "d_bias", acc, {O});
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

void attention_forward(Context& context, const Tensor& out, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    check_attention(in, params, lse);
    expect_rows(out, "out", in.q.dtype, {in.q.dim(0), in.q.dim(1), in.q.dim(2), in.q.dim(3)});
    run<cpu::attention_forward, cuda::attention_forward>(context, out, lse, in, params);
}

void attention_backward(Context& context, const AttentionGradients& gradients, const Tensor& d_out, const Tensor& out,
                        const Tensor& lse, const AttentionInputs& in, const AttentionParams& params) {
    check_attention(in, params, lse);
    const Dtype x = in.q.dtype;
    const int64_t B = in.q.dim(0), T = in.q.dim(1), H = in.q.dim(2), D = in.q.dim(3), S = in.k.dim(1), G = in.k.dim(2);
    expect_rows(out, "out", x, {B, T, H, D});
    expect_rows(d_out, "d_out", x, {B, T, H, D});
    expect_rows(gradients.d_q, "d_q", x, {B, T, H, D});
    expect_rows(gradients.d_k, "d_k", x, {B, S, G, D});
    expect_rows(gradients.d_v, "d_v", x, {B, S, G, D});
    require(gradients.d_sink_query.empty() == in.sink_query.empty(), "d_sink_query comes exactly with sink_query");
    if (!in.sink_query.empty()) expect_rows(gradients.d_sink_query, "d_sink_query", x, {B, T, H, D});
    const bool learned = has_learned_sink_logit(params.normaliser);
    require(gradients.d_sink_logit_H.empty() == !learned, "d_sink_logit comes exactly with a learned sink logit");
    if (learned) expect_dense(gradients.d_sink_logit_H, "d_sink_logit", accumulation_dtype(x), {H});
    run<cpu::attention_backward, cuda::attention_backward>(context, gradients, d_out, out, lse, in, params);
}

size_t attention_backward_scratch_bytes(const Context& context, const AttentionInputs& in) {
    return run<cpu::attention_backward_scratch_bytes, cuda::attention_backward_scratch_bytes>(context, in);
}

void attention_weights(Context& context, const Tensor& weights, const Tensor& lse, const AttentionInputs& in,
                       const AttentionParams& params) {
    check_attention(in, params, lse);
    expect_dense(weights, "weights", accumulation_dtype(in.q.dtype),
                 {in.q.dim(0), in.q.dim(2), in.q.dim(1), in.k.dim(1)});
    run<cpu::attention_weights, cuda::attention_weights>(context, weights, lse, in, params);
}

void linear_cross_entropy(Context& context, const Tensor& losses, const Tensor& d_x, const Tensor& d_weight,
                          const Tensor& x, const Tensor& weight, const Tensor& targets, double loss_factor,
                          const StepScalarsTensor& scalars) {
    expect_compute(x.dtype);
    const Dtype acc = accumulation_dtype(x.dtype);
    const int64_t N = x.dim(0), C = x.dim(1), V = weight.dim(0);
    expect_dense(x, "x", x.dtype, {N, C});
    expect_dense(weight, "weight", x.dtype, {V, C});
    expect_dense(targets, "targets", Dtype::i32, {N});
    expect_dense(losses, "losses", acc, {N});
    require(d_x.empty() == d_weight.empty(), "d_x and d_weight come together");
    if (!d_x.empty()) {
        expect_dense(d_x, "d_x", x.dtype, {N, C});
        expect_dense(d_weight, "d_weight", acc, {V, C});
    }
    if (!scalars.empty()) expect_scalars(scalars);
    run<cpu::linear_cross_entropy, cuda::linear_cross_entropy>(context, losses, d_x, d_weight, x, weight, targets,
                                                               loss_factor, scalars);
}

size_t linear_cross_entropy_scratch_bytes(const Context& context, Dtype x, int64_t rows, int64_t vocabulary,
                                          int64_t channels) {
    return run<cpu::linear_cross_entropy_scratch_bytes, cuda::linear_cross_entropy_scratch_bytes>(context, x, rows,
                                                                                                  vocabulary, channels);
}

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

ParameterSet::ParameterSet(Context& context, std::vector<ParameterSpan> spans)
    : spans_(std::move(spans)),
      table_(run<cpu::parameter_table, cuda::parameter_table>(context, std::span<const ParameterSpan>(spans_))) {}

void global_norm(Context& context, const StepScalarsTensor& scalars, const Tensor& sum_of_squares,
                 const Tensor& gradients, const ParameterSet& parameters, const Tensor& losses, double clip_norm) {
    expect_scalars(scalars);
    expect_dense(sum_of_squares, "sum_of_squares", Dtype::f64, {static_cast<int64_t>(parameters.spans().size())});
    expect_dense(gradients, "gradients", accumulation_dtype(gradients.dtype), {gradients.dim(0)});
    expect_dense(losses, "losses", Dtype::f64, {losses.dim(0)});
    run<cpu::global_norm, cuda::global_norm>(context, scalars, sum_of_squares, gradients, parameters, losses,
                                             clip_norm);
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
