#include "model/block.h"

#include <array>
#include <tuple>

namespace ballast::model {
namespace {

/// Collects one layer's parameters; `get` says which of its arrays.
template <class Get>
LayerParameters collect(const ParameterTable& table, int64_t layer, Get&& get) {
    const auto at = [&](Role role) { return get(table.row(role, layer)); };
    LayerParameters p;
    p.input_layernorm_weight = at(Role::input_layernorm_weight);
    p.input_layernorm_bias = at(Role::input_layernorm_bias);
    p.post_attention_layernorm_weight = at(Role::post_attention_layernorm_weight);
    p.post_attention_layernorm_bias = at(Role::post_attention_layernorm_bias);
    p.query_key_value_weight = at(Role::query_key_value_weight);
    p.query_key_value_bias = at(Role::query_key_value_bias);
    p.attention_dense_weight = at(Role::attention_dense_weight);
    p.attention_dense_bias = at(Role::attention_dense_bias);
    p.mlp_up_weight = at(Role::mlp_up_weight);
    p.mlp_up_bias = at(Role::mlp_up_bias);
    p.mlp_down_weight = at(Role::mlp_down_weight);
    p.mlp_down_bias = at(Role::mlp_down_bias);
    return p;
}

/// attention_proj from attention_out.
void attention_projection(Context& ctx, const LayerParameters& p, const LayerActivations& a,
                          const BlockTemporaries& t) {
    ops::linear_forward(ctx, t.attention_proj, a.attention_out.view({a.ln1_out.dim(0), a.ln1_out.dim(1)}),
                        p.attention_dense_weight, p.attention_dense_bias);
}

}  // namespace

LayerParameters layer_weights(const Weights& weights, int64_t layer) {
    LayerParameters p = collect(weights.table(), layer, [&](const ParameterRow& row) { return weights.compute(row); });
    if (weights.table().has(Role::attention_sinks, layer))  // logits stay in the accumulation dtype
        p.attention_sinks = weights.master(weights.table().row(Role::attention_sinks, layer));
    return p;
}

LayerParameters layer_gradients(const ParameterTable& table, const FlatArray& gradients, int64_t layer) {
    LayerParameters p = collect(table, layer, [&](const ParameterRow& row) { return gradients.of(row); });
    if (table.has(Role::attention_sinks, layer))
        p.attention_sinks = gradients.of(table.row(Role::attention_sinks, layer));
    return p;
}

LayerActivations::LayerActivations(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t B, int64_t T,
                                   const LayerActivations* attention_of) {
    const Dtype acc = accumulation_dtype(dtype);
    const int64_t N = B * T, C = config.hidden_size, F = config.feed_forward_dim(), H = config.num_heads,
                  D = config.head_dim();
    ln1_out = arena.tensor(dtype, {N, C});
    ln1_mean = arena.tensor(acc, {N});
    ln1_rstd = arena.tensor(acc, {N});
    if (attention_of != nullptr) {
        std::tie(q, k, v) = std::tie(attention_of->q, attention_of->k, attention_of->v);
        std::tie(attention_out, lse) = std::tie(attention_of->attention_out, attention_of->lse);
    } else {
        for (Tensor* t : {&q, &k, &v, &attention_out}) *t = arena.tensor(dtype, {B, T, H, D});
        lse = arena.tensor(acc, {B, H, T});
    }
    if (!config.parallel_residual) middle = arena.tensor(dtype, {N, C});
    ln2_out = arena.tensor(dtype, {N, C});
    if (!config.parallel_residual) {
        ln2_mean = arena.tensor(acc, {N});
        ln2_rstd = arena.tensor(acc, {N});
    }
    mlp_pre = arena.tensor(dtype, {N, F});
    mlp_gelu = arena.tensor(dtype, {N, F});
}

BlockTemporaries::BlockTemporaries(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t N) {
    const int64_t C = config.hidden_size;
    qkv = arena.tensor(dtype, {N, 3 * C});
    attention_proj = arena.tensor(dtype, {N, C});
    mlp_proj = arena.tensor(dtype, {N, C});
}

BlockGradients::BlockGradients(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t B, int64_t T) {
    const int64_t N = B * T, C = config.hidden_size, H = config.num_heads, D = config.head_dim();
    d_ln1_out = arena.tensor(dtype, {N, C});
    d_ln2_out = arena.tensor(dtype, {N, C});
    d_attention_out = arena.tensor(dtype, {B, T, H, D});
    d_q = arena.tensor(dtype, {B, T, H, D});
    d_k = arena.tensor(dtype, {B, T, H, D});
    d_v = arena.tensor(dtype, {B, T, H, D});
    d_qkv = arena.tensor(dtype, {N, 3 * C});
    d_mlp = arena.tensor(dtype, {N, config.feed_forward_dim()});
}

ResidualNorms input_norms(const ModelConfig& config, const LayerParameters& p, const LayerActivations& a) {
    ResidualNorms norms{{{a.ln1_out, p.input_layernorm_weight, p.input_layernorm_bias}}, a.ln1_mean, a.ln1_rstd};
    if (config.parallel_residual)
        norms.outputs.push_back({a.ln2_out, p.post_attention_layernorm_weight, p.post_attention_layernorm_bias});
    return norms;
}

void attention_branch_forward(Context& ctx, const LayerParameters& p, const LayerActivations& a,
                              const BlockTemporaries& t, const AttendForward& attend) {
    const int64_t B = a.attention_out.dim(0), T = a.attention_out.dim(1), C = a.ln1_out.dim(1);
    ops::linear_forward(ctx, t.qkv, a.ln1_out, p.query_key_value_weight, p.query_key_value_bias);
    attend(t.qkv.view({B, T, 3 * C}), a);
}

void block_activations_forward(Context& ctx, const ModelConfig& config, const LayerParameters& p,
                               const LayerActivations& a, const BlockTemporaries& t, const Tensor& x,
                               const AttendForward& attend) {
    attention_branch_forward(ctx, p, a, t, attend);
    if (!config.parallel_residual) {
        attention_projection(ctx, p, a, t);
        const ops::NormOutput ln2{a.ln2_out, p.post_attention_layernorm_weight, p.post_attention_layernorm_bias};
        ops::residual_norm_forward(ctx, a.middle, {&ln2, 1}, a.ln2_mean, a.ln2_rstd, x, t.attention_proj, Tensor{},
                                   config.layer_norm_eps);
    }
    ops::linear_gelu_forward(ctx, a.mlp_gelu, a.mlp_pre, a.ln2_out, p.mlp_up_weight, p.mlp_up_bias, config.hidden_act);
}

void block_forward(Context& ctx, const ModelConfig& config, const LayerParameters& p, const LayerActivations& a,
                   const BlockTemporaries& t, const Tensor& y, const ResidualNorms& next, const Tensor& x,
                   const AttendForward& attend) {
    block_activations_forward(ctx, config, p, a, t, x, attend);
    if (config.parallel_residual) attention_projection(ctx, p, a, t);
    ops::linear_forward(ctx, t.mlp_proj, a.mlp_gelu, p.mlp_down_weight, p.mlp_down_bias);

    if (config.parallel_residual)
        ops::residual_norm_forward(ctx, y, next.outputs, next.mean, next.rstd, x, t.attention_proj, t.mlp_proj,
                                   config.layer_norm_eps);
    else
        ops::residual_norm_forward(ctx, y, next.outputs, next.mean, next.rstd, a.middle, t.mlp_proj, Tensor{},
                                   config.layer_norm_eps);
}

void block_backward(Context& ctx, const ModelConfig& config, const LayerParameters& p, const LayerParameters& d,
                    const LayerActivations& a, const BlockGradients& g, const Tensor& d_x, const Tensor& x,
                    const AttendBackward& attend) {
    const int64_t N = x.dim(0), C = x.dim(1);
    const ops::NormGradient ln1{g.d_ln1_out, p.input_layernorm_weight, d.input_layernorm_weight,
                                d.input_layernorm_bias};
    const ops::NormGradient ln2{g.d_ln2_out, p.post_attention_layernorm_weight, d.post_attention_layernorm_weight,
                                d.post_attention_layernorm_bias};

    ops::gelu_linear_backward(ctx, g.d_mlp, d.mlp_down_weight, d.mlp_down_bias, d_x, a.mlp_gelu, a.mlp_pre,
                              p.mlp_down_weight, config.hidden_act);
    ops::linear_backward(ctx, g.d_ln2_out, d.mlp_up_weight, d.mlp_up_bias, g.d_mlp, a.ln2_out, p.mlp_up_weight);
    if (!config.parallel_residual)
        ops::norm_backward(ctx, d_x, {&ln2, 1}, a.middle, a.ln2_mean, a.ln2_rstd);  // d_x is now dL/du

    ops::linear_backward(ctx, g.d_attention_out.view({N, C}), d.attention_dense_weight, d.attention_dense_bias, d_x,
                         a.attention_out.view({N, C}), p.attention_dense_weight);
    attend(g, a);
    ops::linear_backward(ctx, g.d_ln1_out, d.query_key_value_weight, d.query_key_value_bias, g.d_qkv, a.ln1_out,
                         p.query_key_value_weight);
    if (config.parallel_residual)
        ops::norm_backward(ctx, d_x, std::array{ln2, ln1}, x, a.ln1_mean, a.ln1_rstd);
    else
        ops::norm_backward(ctx, d_x, {&ln1, 1}, x, a.ln1_mean, a.ln1_rstd);
}

}  // namespace ballast::model
