#include "model/block.h"

#include <array>
#include <initializer_list>
#include <tuple>

namespace ballast::model {
namespace {

/// Collects one layer's parameters; `get` gives a row with its scales, if any. What the model lacks stays absent.
template <class Get>
LayerParameters collect(const ParameterTable& table, int64_t layer, Get&& get) {
    using Roles = std::initializer_list<Role>;
    const auto matrix = [&](Roles roles) {
        const auto row = table.joined(roles, layer);
        return row ? get(*row) : ops::LinearWeight{};
    };
    const auto at = [&](Roles roles) { return matrix(roles).weight; };
    const auto linear = [&](Roles weights, Roles biases) {
        ops::LinearWeight out = matrix(weights);
        out.bias = at(biases);
        return out;
    };
    using enum Role;
    LayerParameters p;
    p.norm1_weight = at({norm1_weight});
    p.norm1_bias = at({norm1_bias});
    p.norm2_weight = at({norm2_weight});
    p.norm2_bias = at({norm2_bias});
    p.query_key_value = linear({query_key_value_weight, query_weight, key_weight, value_weight},
                               {query_key_value_bias, query_bias, key_bias, value_bias});
    p.attention_dense = linear({attention_dense_weight}, {attention_dense_bias});
    p.attention_sinks = at({attention_sinks});
    p.attention_gate = linear({attention_gate_weight}, {});
    p.mlp_up = linear({mlp_gate_weight, mlp_up_weight}, {mlp_gate_bias, mlp_up_bias});
    p.mlp_down = linear({mlp_down_weight}, {mlp_down_bias});
    return p;
}

ops::Gelu gelu_of(Activation activation) {
    return activation == Activation::gelu_tanh ? ops::Gelu::tanh : ops::Gelu::erf;
}

/// [B,T,H,D] as the rows of a matrix.
Tensor as_rows(const Tensor& heads) { return heads.view({heads.dim(0) * heads.dim(1), heads.dim(2) * heads.dim(3)}); }

/// What the projection after attention reads: attention_out [N,H*D], times its gates where there are some.
Tensor projection_input(Context& ctx, const LayerActivations& a, const BlockTemporaries& t) {
    if (a.gate.empty()) return as_rows(a.attention_out);
    ops::head_gate_forward(ctx, t.gated_heads, a.attention_out, a.gate);
    return as_rows(t.gated_heads);
}

/// attention_proj from attention_out.
void attention_projection(Context& ctx, const LayerParameters& p, const LayerActivations& a,
                          const BlockTemporaries& t) {
    ops::linear_forward(ctx, t.attention_proj, t.before(LinearInput::out, projection_input(ctx, a, t)),
                        p.attention_dense, t.products);
}

/// d_attention_out, and with gates d_norm1_of_gate, from the gradient of the attention branch.
void attention_projection_backward(Context& ctx, const LayerParameters& p, const LayerParameters& d,
                                   const LayerActivations& a, const BlockTemporaries& t, const BlockGradients& g,
                                   const Tensor& d_out) {
    ops::linear_backward(ctx, as_rows(g.d_attention_out), d.attention_dense.weight, d.attention_dense.bias, d_out,
                         projection_input(ctx, a, t), p.attention_dense.weight);
    if (a.gate.empty()) return;
    ops::head_gate_backward(ctx, g.d_attention_out, g.d_gate, g.d_attention_out, a.attention_out, a.gate);
    const Tensor d_gate = g.d_gate.view({a.norm1_out.dim(0), a.gate.dim(2)});
    ops::linear_backward(ctx, g.d_norm1_of_gate, d.attention_gate.weight, Tensor{}, d_gate, a.norm1_out,
                         p.attention_gate.weight);
}

/// mlp_pre and mlp_hidden from norm2_out.
void mlp_up_forward(Context& ctx, const ModelConfig& config, const LayerParameters& p, const LayerActivations& a,
                    const BlockTemporaries& t) {
    const Tensor x = t.before(LinearInput::up, a.norm2_out);
    if (config.gated()) {
        ops::linear_forward(ctx, a.mlp_pre, x, p.mlp_up, t.products);
        ops::swiglu_forward(ctx, a.mlp_hidden, a.mlp_pre);
    } else {
        ops::linear_gelu_forward(ctx, a.mlp_hidden, a.mlp_pre, x, p.mlp_up, gelu_of(config.hidden_act),
                                 t.products);
    }
}

/// d_norm2_out from the gradient of the MLP's output.
void mlp_backward(Context& ctx, const ModelConfig& config, const LayerParameters& p, const LayerParameters& d,
                  const LayerActivations& a, const BlockGradients& g, const Tensor& d_out) {
    if (config.gated()) {
        ops::linear_backward(ctx, g.d_mlp_hidden, d.mlp_down.weight, d.mlp_down.bias, d_out, a.mlp_hidden,
                             p.mlp_down.weight);
        ops::swiglu_backward(ctx, g.d_mlp_pre, g.d_mlp_hidden, a.mlp_pre);
    } else {
        ops::gelu_linear_backward(ctx, g.d_mlp_pre, d.mlp_down.weight, d.mlp_down.bias, d_out, a.mlp_hidden, a.mlp_pre,
                                  p.mlp_down.weight, gelu_of(config.hidden_act));
    }
    ops::linear_backward(ctx, g.d_norm2_out, d.mlp_up.weight, d.mlp_up.bias, g.d_mlp_pre, a.norm2_out, p.mlp_up.weight);
}

}  // namespace

LayerParameters layer_weights(const Weights& weights, int64_t layer) {
    return collect(weights.table(), layer, [&](const ParameterRow& row) {
        return row.role == Role::attention_sinks ? ops::LinearWeight{weights.accumulated(row), {}} : weights.stored(row);
    });
}

LayerParameters layer_gradients(const ParameterTable& table, const FlatArray& gradients, int64_t layer) {
    return collect(table, layer, [&](const ParameterRow& row) { return ops::LinearWeight{gradients.of(row), {}}; });
}

LayerActivations::LayerActivations(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t B, int64_t T,
                                   const LayerActivations* shared_attention) {
    const Dtype acc = accumulation_dtype(dtype);
    const int64_t N = B * T, C = config.hidden_size, H = config.num_heads, G = config.key_value_heads(),
                  D = config.head_dim();
    const bool sequential = !config.parallel_residual, means = config.norm == Norm::layernorm;
    norm1_out = arena.tensor(dtype, {N, C});
    if (means) norm1_mean = arena.tensor(acc, {N});
    norm1_rstd = arena.tensor(acc, {N});
    if (shared_attention != nullptr) {
        std::tie(unclipped_qkv, q, k, v) =
            std::tie(shared_attention->unclipped_qkv, shared_attention->q, shared_attention->k, shared_attention->v);
        std::tie(attention_out, lse) = std::tie(shared_attention->attention_out, shared_attention->lse);
    } else {
        if (config.clip_qkv > 0) unclipped_qkv = arena.tensor(dtype, {N, config.qkv_dim()});
        q = arena.tensor(dtype, {B, T, H, D});
        k = arena.tensor(dtype, {B, T, G, D});
        v = arena.tensor(dtype, {B, T, G, D});
        attention_out = arena.tensor(dtype, {B, T, H, D});
        lse = arena.tensor(acc, {B, H, T});
    }
    if (config.gate == Gate::headwise) gate = arena.tensor(dtype, {B, T, H});
    if (sequential) middle = arena.tensor(dtype, {N, C});
    norm2_out = config.shared_norm ? norm1_out : arena.tensor(dtype, {N, C});
    if (sequential && means) norm2_mean = arena.tensor(acc, {N});
    if (sequential) norm2_rstd = arena.tensor(acc, {N});
    mlp_pre = arena.tensor(dtype, {N, config.mlp_up_dim()});
    mlp_hidden = arena.tensor(dtype, {N, config.feed_forward_dim()});
}

BlockTemporaries::BlockTemporaries(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t B, int64_t T) {
    const int64_t N = B * T, C = config.hidden_size;
    qkv = arena.tensor(dtype, {N, config.qkv_dim()});
    if (config.gate == Gate::headwise) gated_heads = arena.tensor(dtype, {B, T, config.num_heads, config.head_dim()});
    attention_proj = arena.tensor(dtype, {N, C});
    mlp_proj = arena.tensor(dtype, {N, C});
}

BlockGradients::BlockGradients(Arena& arena, const ModelConfig& config, Dtype dtype, int64_t B, int64_t T) {
    const int64_t N = B * T, C = config.hidden_size, H = config.num_heads, G = config.key_value_heads(),
                  D = config.head_dim();
    d_norm1_out = arena.tensor(dtype, {N, C});
    d_norm2_out = arena.tensor(dtype, {N, C});
    d_attention_out = arena.tensor(dtype, {B, T, H, D});
    d_q = arena.tensor(dtype, {B, T, H, D});
    d_k = arena.tensor(dtype, {B, T, G, D});
    d_v = arena.tensor(dtype, {B, T, G, D});
    d_qkv = arena.tensor(dtype, {N, config.qkv_dim()});
    if (config.gate == Gate::headwise) {
        d_gate = arena.tensor(dtype, {B, T, H});
        d_norm1_of_gate = arena.tensor(dtype, {N, C});
    }
    if (config.gated()) d_mlp_hidden = arena.tensor(dtype, {N, config.feed_forward_dim()});
    d_mlp_pre = arena.tensor(dtype, {N, config.mlp_up_dim()});
}

ResidualNorms input_norms(const ModelConfig& config, const LayerParameters& p, const LayerActivations& a) {
    ResidualNorms norms{{{a.norm1_out, p.norm1_weight, p.norm1_bias}}, a.norm1_mean, a.norm1_rstd};
    if (config.parallel_residual && !config.shared_norm)
        norms.outputs.push_back({a.norm2_out, p.norm2_weight, p.norm2_bias});
    return norms;
}

void attention_branch_forward(Context& ctx, const ModelConfig& config, const LayerParameters& p,
                              const LayerActivations& a, const BlockTemporaries& t, const AttendForward& attend) {
    const int64_t B = a.attention_out.dim(0), T = a.attention_out.dim(1);
    const Tensor& product = config.clip_qkv > 0 ? a.unclipped_qkv : t.qkv;
    ops::linear_forward(ctx, product, t.before(LinearInput::qkv, a.norm1_out), p.query_key_value, t.products);
    if (config.clip_qkv > 0) ops::clamp_forward(ctx, t.qkv, product, config.clip_qkv);
    attend(t.qkv.view({B, T, t.qkv.dim(1)}), a);
    if (a.gate.empty()) return;
    const Tensor gate = a.gate.view({B * T, a.gate.dim(2)});
    ops::linear_forward(ctx, gate, a.norm1_out, p.attention_gate, t.products);
}

void block_activations_forward(Context& ctx, const ModelConfig& config, const LayerParameters& p,
                               const LayerActivations& a, const BlockTemporaries& t, const Tensor& x,
                               const AttendForward& attend) {
    attention_branch_forward(ctx, config, p, a, t, attend);
    if (!config.parallel_residual) {
        attention_projection(ctx, p, a, t);
        const ops::NormOutput norm2{a.norm2_out, p.norm2_weight, p.norm2_bias};
        ops::residual_norm_forward(ctx, a.middle, {&norm2, 1}, a.norm2_mean, a.norm2_rstd, x, t.attention_proj,
                                   Tensor{}, config.layer_norm_eps);
    }
    mlp_up_forward(ctx, config, p, a, t);
}

void block_forward(Context& ctx, const ModelConfig& config, const LayerParameters& p, const LayerActivations& a,
                   const BlockTemporaries& t, const Tensor& y, const ResidualNorms& next, const Tensor& x,
                   const AttendForward& attend) {
    block_activations_forward(ctx, config, p, a, t, x, attend);
    if (config.parallel_residual) attention_projection(ctx, p, a, t);
    ops::linear_forward(ctx, t.mlp_proj, t.before(LinearInput::down, a.mlp_hidden), p.mlp_down, t.products);

    if (config.parallel_residual)
        ops::residual_norm_forward(ctx, y, next.outputs, next.mean, next.rstd, x, t.attention_proj, t.mlp_proj,
                                   config.layer_norm_eps);
    else
        ops::residual_norm_forward(ctx, y, next.outputs, next.mean, next.rstd, a.middle, t.mlp_proj, Tensor{},
                                   config.layer_norm_eps);
}

void block_backward(Context& ctx, const ModelConfig& config, const LayerParameters& p, const LayerParameters& d,
                    const LayerActivations& a, const BlockTemporaries& t, const BlockGradients& g, const Tensor& d_x,
                    const Tensor& x, const AttendBackward& attend) {
    const ops::NormGradient norm1{g.d_norm1_out, p.norm1_weight, d.norm1_weight, d.norm1_bias};
    const ops::NormGradient norm2{g.d_norm2_out, p.norm2_weight, d.norm2_weight, d.norm2_bias};

    mlp_backward(ctx, config, p, d, a, g, d_x);
    if (!config.parallel_residual)
        ops::norm_backward(ctx, d_x, {&norm2, 1}, a.middle, a.norm2_mean, a.norm2_rstd);  // d_x is now dL/du

    attention_projection_backward(ctx, p, d, a, t, g, d_x);
    attend(g, a);
    if (config.clip_qkv > 0) ops::clamp_backward(ctx, g.d_qkv, g.d_qkv, a.unclipped_qkv, config.clip_qkv);
    ops::linear_backward(ctx, g.d_norm1_out, d.query_key_value.weight, d.query_key_value.bias, g.d_qkv, a.norm1_out,
                         p.query_key_value.weight);

    if (!a.gate.empty()) ops::add(ctx, g.d_norm1_out, g.d_norm1_out, g.d_norm1_of_gate);
    if (config.shared_norm) ops::add(ctx, g.d_norm1_out, g.d_norm1_out, g.d_norm2_out);
    if (config.parallel_residual && !config.shared_norm)
        ops::norm_backward(ctx, d_x, std::array{norm2, norm1}, x, a.norm1_mean, a.norm1_rstd);
    else
        ops::norm_backward(ctx, d_x, {&norm1, 1}, x, a.norm1_mean, a.norm1_rstd);
}

}  // namespace ballast::model
