#include "model/bert.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/arena.h"
#include "base/error.h"

namespace ballast::model {

/// Of a call on B sequences of T tokens; N = B*T rows.
struct Bert::Activations {
    Tensor ids, types, positions;  // i32 [N]
    Tensor x, y, branch,
        position;           // [N,C]: the stream, in turn at a layer's ends and in its middle, and what is added to it
    Tensor mean, rstd;      // [N]
    Tensor q, k, v, heads;  // [B,T,H,D]
    Tensor lse;             // [B,H,T]
    Tensor mlp_pre, mlp;    // [N,F]

    Activations(Arena& arena, const BertConfig& config, int64_t B, int64_t T) {
        const int64_t N = B * T;
        for (Tensor* t : {&ids, &types, &positions}) *t = arena.tensor(Dtype::i32, {N});
        for (Tensor* t : {&x, &y, &branch, &position}) *t = arena.tensor(Dtype::f32, {N, config.hidden_size});
        for (Tensor* t : {&mean, &rstd}) *t = arena.tensor(Dtype::f32, {N});
        for (Tensor* t : {&q, &k, &v, &heads})
            *t = arena.tensor(Dtype::f32, {B, T, config.num_heads, config.head_dim()});
        lse = arena.tensor(Dtype::f32, {B, config.num_heads, T});
        for (Tensor* t : {&mlp_pre, &mlp}) *t = arena.tensor(Dtype::f32, {N, config.intermediate_size});
    }
};

size_t Bert::activation_bytes(const BertConfig& config, int64_t batch, int64_t length) {
    Arena plan;
    Activations(plan, config, batch, length);
    return plan.peak_bytes();
}

Bert::Bert(Context& context, const std::string& folder) : config_(read_bert_config(folder)) {
    layers_.resize(static_cast<size_t>(config_.num_layers));
    read_weights(context, folder);
}

/// out = LN(stream + branch + third), where the third may be absent; the stream becomes the sum.
void Bert::normalise(Context& context, const Norm& norm, const Activations& a, const Tensor& out, const Tensor& stream,
                     const Tensor& third) const {
    const ops::NormOutput output{out, norm.weight, norm.bias};
    ops::residual_norm_forward(context, stream, {&output, 1}, a.mean, a.rstd, stream, a.branch, third,
                               config_.layer_norm_eps);
}

void Bert::forward_layer(Context& context, int64_t l, const Activations& a, const AttentionObserver& observer) const {
    const Layer& p = layers_[static_cast<size_t>(l)];
    const int64_t N = a.x.dim(0), C = a.x.dim(1);
    for (const auto& [to, linear] : {std::pair(&a.q, &p.query), {&a.k, &p.key}, {&a.v, &p.value}})
        ops::linear_forward(context, to->view({N, C}), a.x, *linear);

    ops::AttentionParams params;
    params.scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim()));
    params.mask.query_start = a.k.dim(1);  // behind all keys
    const ops::AttentionInputs inputs{a.q, a.k, a.v, Tensor{}};
    ops::attention_forward(context, a.heads, a.lse, inputs, params);
    if (observer) observer(l, a.lse, inputs, params);
    ops::linear_forward(context, a.branch, a.heads.view({N, C}), p.attention_dense);
    normalise(context, p.attention_norm, a, a.y, a.x, Tensor{});

    ops::linear_gelu_forward(context, a.mlp, a.mlp_pre, a.y, p.intermediate, config_.hidden_act);
    ops::linear_forward(context, a.branch, a.mlp, p.output);
    normalise(context, p.output_norm, a, a.x, a.y, Tensor{});
}

std::vector<float> Bert::forward(Context& context, std::span<const int32_t> ids, int64_t length,
                                 const AttentionObserver& observer) const {
    require(length >= 1 && !ids.empty() && static_cast<int64_t>(ids.size()) % length == 0, "sequences of one length");
    if (length > config_.max_position_embeddings)
        throw UserError(fmt::format("sequences of {} tokens, but the model has {} positions", length,
                                    config_.max_position_embeddings));
    for (const int32_t id : ids)
        if (id < 0 || id >= config_.vocab_size)
            throw UserError(fmt::format("token id {} is not below the model's vocab_size {}; is this its tokenizer?",
                                        id, config_.vocab_size));
    const int64_t batch = static_cast<int64_t>(ids.size()) / length;
    const DeviceBuffer buffer = context.allocate(activation_bytes(config_, batch, length));
    Arena arena(buffer.data(), buffer.bytes());
    const Activations a(arena, config_, batch, length);

    std::vector<int32_t> positions(ids.size());
    for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length);
    context.copy_from_host(a.ids, ids.data());
    context.copy_from_host(a.positions, positions.data());
    context.zero(a.types);
    ops::embedding_forward(context, a.y, word_embeddings_, a.ids);
    ops::embedding_forward(context, a.branch, token_type_embeddings_, a.types);
    ops::embedding_forward(context, a.position, position_embeddings_, a.positions);
    normalise(context, embedding_norm_, a, a.x, a.y, a.position);
    for (int64_t l = 0; l < config_.num_layers; ++l) forward_layer(context, l, a, observer);
    return context.read_floats(a.x);
}

}  // namespace ballast::model
