#include "model/transformer.h"

#include <algorithm>
#include <cmath>

#include "kernels/backend.h"
#include "kernels/phase.h"

namespace ballast::model {

Activations::Activations(Arena& arena, const ModelConfig& config, Dtype dtype, PassKind kind, int64_t B, int64_t T,
                         Recompute recompute) {
    const Dtype acc = accumulation_dtype(dtype);
    const int64_t N = B * T, C = config.hidden_size, L = config.num_layers;
    const bool keep = kind == PassKind::forward_backward;
    ids = arena.tensor(Dtype::i32, {N});
    targets = arena.tensor(Dtype::i32, {N});
    for (int64_t i = 0; i < (keep ? L + 1 : 2); ++i) residual.push_back(arena.tensor(dtype, {N, C}));
    const bool keep_layers = keep && recompute != Recompute::full;
    layers.reserve(static_cast<size_t>(L));
    for (int64_t l = 0; l < (keep_layers ? L : 1); ++l)
        layers.emplace_back(arena, config, dtype, B, T,
                            l > 0 && recompute == Recompute::attention ? &layers.front() : nullptr);
    temporaries = BlockTemporaries(arena, config, dtype, B, T);
    final_out = arena.tensor(dtype, {N, C});
    if (config.norm == Norm::layernorm) final_mean = arena.tensor(acc, {N});
    final_rstd = arena.tensor(acc, {N});
    losses = arena.tensor(acc, {N});
    if (!keep) return;
    d_x = arena.tensor(dtype, {N, C});
    d_final_out = arena.tensor(dtype, {N, C});
    gradients = BlockGradients(arena, config, dtype, B, T);
}

Transformer::Transformer(Context& context, const ModelConfig& config, Dtype compute_dtype, WeightUse use,
                         std::optional<Dtype> matrices)
    : config_(config),
      weights_(context, config, computable_on(context.device(), compute_dtype), use, matrices),
      positions_(context, config, compute_dtype, config.max_position_embeddings + 1) {
    for (int64_t l = 0; l < config.num_layers; ++l) layers_.push_back(layer_weights(weights_, l));
}

ops::AttentionParams Transformer::attention(int64_t l) const {
    const auto D = static_cast<double>(config_.head_dim());
    ops::AttentionParams params;
    params.scale = config_.attention_scale > 0 ? config_.attention_scale : 1.0 / std::sqrt(D);
    params.normaliser = config_.normaliser;
    params.sink_logit_H = layer(l).attention_sinks;
    params.alibi_slope_H = positions_.alibi_slopes();
    params.mask.span_H = positions_.span(l);
    if (!params.mask.span_H.empty()) params.mask.num_sink_positions = params.mask.key_start = config_.num_sink_tokens;
    return params;
}

const ParameterRow& Transformer::head_row() const {
    return weights_.table().row(config_.tie_word_embeddings ? Role::embed_in : Role::embed_out);
}

ResidualNorms Transformer::residual_norms(int64_t l, const Activations& a) const {
    if (l < config_.num_layers) return input_norms(config_, layer(l), a.layer(l));
    const auto weight = [&](Role role) {
        const ParameterRow* row = weights_.table().find(role);
        return row == nullptr ? Tensor{} : weights_.compute(*row);
    };
    return {
        {{a.final_out, weight(Role::final_norm_weight), weight(Role::final_norm_bias)}}, a.final_mean, a.final_rstd};
}

void Transformer::normalise_input(Context& context, int64_t l, const Activations& a) const {
    const ResidualNorms norms = residual_norms(l, a);
    ops::residual_norm_forward(context, Tensor{}, norms.outputs, norms.mean, norms.rstd, a.residual_stream(l), Tensor{},
                               Tensor{}, config_.layer_norm_eps);
}

void Transformer::forward_layers(Context& context, const Activations& a, const Attend& attend,
                                 const LayerObserver& observer) const {
    const ops::LinearWeight embeddings = weights_.stored(weights_.table().row(Role::embed_in));
    ops::embedding_forward(context, a.residual_stream(0), embeddings.weight, a.ids, embeddings.scale);
    normalise_input(context, 0, a);
    for (int64_t l = 0; l < config_.num_layers; ++l) {
        block_forward(context, config_, layer(l), a.layer(l), a.temporaries, a.residual_stream(l + 1),
                      residual_norms(l + 1, a), a.residual_stream(l),
                      [&](const Tensor& qkv, const LayerActivations& activations) { attend(l, qkv, activations); });
        if (observer) observer(l, a.layer(l));
    }
}

void Transformer::head_logits(Context& context, const Tensor& logits, const Tensor& final_out,
                              ops::Products products) const {
    ops::linear_forward(context, logits, final_out, head(), products);
}

void Transformer::head_losses(Context& context, const Tensor& losses, const Tensor& final_out,
                              const Tensor& targets) const {
    ops::linear_cross_entropy(context, losses, Tensor{}, Tensor{}, final_out, head(), targets, 1.0);
}

Pass::Pass(Context& context, Transformer& model, PassKind kind, int64_t batch, int64_t length, Recompute recompute)
    : context_(context),
      model_(model),
      kind_(kind),
      recompute_(recompute),
      batch_(batch),
      length_(length),
      buffer_(context.allocate(activation_bytes(model.config(), model.dtype(), kind, batch, length, recompute))) {
    Arena arena(buffer_.data(), buffer_.bytes());
    a_ = Activations(arena, model.config(), model.dtype(), kind, batch, length, recompute);
    model.positions().ensure(context, length);
    context.scratch().reserve(
        scratch_bytes(context, model.config(), model.dtype(), kind, batch, length, model.weights().matrix_dtype()));
}

size_t Pass::activation_bytes(const ModelConfig& config, Dtype dtype, PassKind kind, int64_t batch, int64_t length,
                              Recompute recompute) {
    Arena plan;
    Activations(plan, config, dtype, kind, batch, length, recompute);
    return plan.peak_bytes();
}

size_t Pass::scratch_bytes(const Context& context, const ModelConfig& config, Dtype dtype, PassKind kind, int64_t batch,
                           int64_t length, std::optional<Dtype> matrices, ops::Products products) {
    const int64_t N = batch * length, C = config.hidden_size;
    const Dtype weights = matrices.value_or(dtype);
    size_t bytes = ops::linear_cross_entropy_scratch_bytes(context, dtype, weights, N, config.vocab_size, C);
    for (const auto& [outputs, inputs] : {std::pair{config.qkv_dim(), C},
                                          {C, config.attention_dim()},
                                          {config.mlp_up_dim(), C},
                                          {C, config.feed_forward_dim()},
                                          {config.num_heads, C}})
        bytes = std::max(bytes, ops::linear_scratch_bytes(context, dtype, weights, N, outputs, inputs, products));
    if (kind == PassKind::forward_backward) {
        bytes = std::max(bytes, ops::embedding_backward_scratch_bytes(context, dtype, N, C));
        Arena plan;
        const LayerActivations shape(plan, config, dtype, batch, length);
        bytes = std::max(bytes, ops::attention_backward_scratch_bytes(context, {shape.q, shape.k, shape.v, Tensor{}}));
    }
    return bytes;
}

void Pass::set_tokens(std::span<const int32_t> ids, std::span<const int32_t> targets) {
    require(static_cast<int64_t>(ids.size()) == a_.ids.numel() && ids.size() == targets.size(),
            "a batch of another shape");
    context_.copy_from_host(a_.ids, ids.data());
    context_.copy_from_host(a_.targets, targets.data());
}

void Pass::use_tokens(const Tensor& ids, const Tensor& targets, const Tensor& first_keys) {
    require(ids.numel() == batch_ * length_ && targets.numel() == ids.numel(), "a batch of another shape");
    require(first_keys.empty() || first_keys.numel() == ids.numel(), "first keys of another shape");
    a_.ids = ids;
    a_.targets = targets;
    first_keys_ = first_keys.empty() ? Tensor{} : first_keys.view({batch_, length_});
}

ops::AttentionParams Pass::attention(int64_t layer) const {
    ops::AttentionParams params = model_.attention(layer);
    if (first_keys_.empty()) return params;
    params.mask.first_key_BT = first_keys_;
    params.mask.num_sink_positions = params.mask.key_start = model_.config().num_sink_tokens;
    return params;
}

void Pass::attend_forward(int64_t layer, const Tensor& qkv, const LayerActivations& a) {
    ops::qkv_split_rope_forward(context_, a.q, a.k, a.v, qkv, model_.positions().rope(), {}, model_.qkv_layout());
    ops::attention_forward(context_, a.attention_out, a.lse, {a.q, a.k, a.v, Tensor{}}, attention(layer));
}

void Pass::attend_backward(int64_t layer, const LayerParameters& d, const BlockGradients& g,
                           const LayerActivations& a) {
    ops::attention_backward(context_, {g.d_q, g.d_k, g.d_v, Tensor{}, d.attention_sinks}, g.d_attention_out,
                            a.attention_out, a.lse, {a.q, a.k, a.v, Tensor{}}, attention(layer));
    ops::qkv_split_rope_backward(context_, g.d_qkv.view({batch_, length_, g.d_qkv.dim(1)}), g.d_q, g.d_k, g.d_v,
                                 model_.positions().rope(), {}, model_.qkv_layout());
}

void Pass::recompute(int64_t l) {
    if (l == model_.config().num_layers - 1) return;  // its activations are still there
    const auto attend = [&](const Tensor& qkv, const LayerActivations& a) { attend_forward(l, qkv, a); };
    if (recompute_ == Recompute::attention)
        attention_branch_forward(context_, model_.config(), model_.layer(l), a_.layer(l), a_.temporaries, attend);
    if (recompute_ == Recompute::full) {
        model_.normalise_input(context_, l, a_);
        block_activations_forward(context_, model_.config(), model_.layer(l), a_.layer(l), a_.temporaries,
                                  a_.residual_stream(l), attend);
    }
}

void Pass::forward_layers() {
    const Phase phase(context_, "forward");
    model_.positions().set_sequence_length(context_, length_);
    model_.forward_layers(
        context_, a_, [&](int64_t l, const Tensor& qkv, const LayerActivations& a) { attend_forward(l, qkv, a); },
        observer_);
}

void Pass::forward() {
    forward_layers();
    model_.head_losses(context_, a_.losses, a_.temporaries.before(LinearInput::head, a_.final_out), a_.targets);
}

Tensor Pass::forward_last(std::span<const int32_t> ids, std::span<const int32_t> targets) {
    require(std::ssize(ids) == a_.ids.numel() && std::ssize(targets) == batch_, "a batch of another shape");
    const Tensor last_targets = a_.targets.slice(0, 0, batch_), losses = a_.losses.slice(0, 0, batch_);
    context_.copy_from_host(a_.ids, ids.data());
    context_.copy_from_host(last_targets, targets.data());
    forward_layers();
    const auto row = [&](int64_t n) { return a_.final_out.slice(0, n, n + 1); };
    for (int64_t b = 0; b < batch_ && length_ > 1; ++b)  // a row is read before a later sequence's takes its place
        ops::copy(context_, row(b), row((b + 1) * length_ - 1));
    const Tensor last = a_.temporaries.before(LinearInput::head, a_.final_out.slice(0, 0, batch_));
    model_.head_losses(context_, losses, last, last_targets);
    return losses;
}

void Pass::forward_logits(const Tensor& logits) {
    forward_layers();
    model_.head_logits(context_, logits, a_.temporaries.before(LinearInput::head, a_.final_out));
}

void Pass::forward_backward(const FlatArray& gradients, double loss_factor, const ops::StepScalarsTensor& scalars) {
    run_backward(&gradients, loss_factor, scalars, {});
}

void Pass::backward_activations(double loss_factor, const GradientObserver& observer) {
    run_backward(nullptr, loss_factor, {}, observer);
}

void Pass::run_backward(const FlatArray* gradients, double loss_factor, const ops::StepScalarsTensor& scalars,
                        const GradientObserver& observer) {
    require(kind_ == PassKind::forward_backward, "this pass keeps no activations for a backward pass");
    require(model_.weights().matrix_dtype() == model_.dtype(),
            "gradients through matrices that are narrower than they");
    forward_layers();
    head_and_loss(gradients, loss_factor, scalars);
    finished(model_.config().num_layers, gradients);
    backward_layers(gradients, observer);
    finished(-1, gradients);
}

void Pass::head_and_loss(const FlatArray* gradients, double loss_factor, const ops::StepScalarsTensor& scalars) {
    const Phase phase(context_, "head and loss");
    const Weights& weights = model_.weights();
    const ParameterTable& table = weights.table();
    const auto gradient_of = [&](const ParameterRow* row) {
        return gradients == nullptr || row == nullptr ? Tensor{} : gradients->of(*row);
    };
    ops::linear_cross_entropy(context_, a_.losses, a_.d_final_out, gradient_of(&model_.head_row()), a_.final_out,
                              model_.head(), a_.targets, loss_factor, scalars);
    const ParameterRow& norm_row = table.row(Role::final_norm_weight);
    const ops::NormGradient norm{a_.d_final_out, weights.compute(norm_row), gradient_of(&norm_row),
                                 gradient_of(table.find(Role::final_norm_bias))};
    context_.zero(a_.d_x);
    ops::norm_backward(context_, a_.d_x, {&norm, 1}, a_.residual_stream(model_.config().num_layers), a_.final_mean,
                       a_.final_rstd);
}

void Pass::backward_layers(const FlatArray* gradients, const GradientObserver& observer) {
    const Phase phase(context_, "backward");
    const ParameterTable& table = model_.weights().table();
    for (int64_t l = model_.config().num_layers - 1; l >= 0; --l) {
        const LayerParameters d = gradients == nullptr ? LayerParameters{} : layer_gradients(table, *gradients, l);
        recompute(l);
        block_backward(context_, model_.config(), model_.layer(l), d, a_.layer(l), a_.temporaries, a_.gradients, a_.d_x,
                       a_.residual_stream(l), [&](const BlockGradients& g, const LayerActivations& layer) {
                           if (observer) observer(l, g, layer);
                           attend_backward(l, d, g, layer);
                       });
        finished(l, gradients);
    }
    if (gradients != nullptr)
        ops::embedding_backward(context_, gradients->of(table.row(Role::embed_in)), a_.d_x, a_.ids);
}

}  // namespace ballast::model
