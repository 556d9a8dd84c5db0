#include "infer/decoder.h"

#include <algorithm>

namespace ballast::infer {
namespace {

constexpr int64_t kLongestStep = 512;  // a longer prompt goes in several steps

using model::Activations;
using model::PassKind;

}  // namespace

Decoder::Decoder(Context& context, model::Transformer& model, const CachePolicy& policy, int64_t max_positions)
    : context_(context),
      model_(model),
      cache_(context, model.config(), model.dtype(), policy,
             policy.bounded() ? policy.capacity() + 1 : std::max<int64_t>(1, max_positions)),
      max_step_(std::min(kLongestStep, cache_.max_rows())) {
    const auto& config = model.config();
    const int64_t rows = cache_.max_rows(), H = config.num_heads, D = config.head_dim();
    buffer_ = context.allocate(model::Pass::activation_bytes(config, model.dtype(), PassKind::forward, 1, max_step_));
    rotated_buffer_ = context.allocate(static_cast<size_t>(rows * H * D) * size_of(model.dtype()));
    rotated_keys_ = Tensor(rotated_buffer_.data(), model.dtype(), {1, rows, H, D});

    const Dtype acc = accumulation_dtype(model.dtype());
    const auto layout = [&](Arena& arena) {
        next_ = arena.tensor(Dtype::i32, {1});
        loss_ = arena.tensor(acc, {1});
        logits_ = arena.tensor(acc, {1, config.vocab_size});
    };
    Arena plan;
    layout(plan);
    head_buffer_ = context.allocate(plan.peak_bytes());
    Arena arena(head_buffer_.data(), head_buffer_.bytes());
    layout(arena);

    model.positions().ensure(context, rows);
    context.scratch().reserve(
        model::Pass::scratch_bytes(context, config, model.dtype(), PassKind::forward, 1, max_step_));
}

void Decoder::attend(int64_t layer, const Tensor& qkv, const model::LayerActivations& a) {
    const int64_t T = a.q.dim(1), n = cache_.size() + T;
    const Tensor table = model_.positions().rope();
    ops::qkv_split_rope_forward(context_, a.q, cache_.key_slots(layer, T), cache_.value_slots(layer, T), qkv, Tensor{},
                                {});
    ops::rope_forward(context_, a.q, a.q, table, {.first = cache_.size()});
    const Tensor keys = rotated_keys_.slice(1, 0, n);
    ops::rope_forward(context_, keys, cache_.keys(layer, n), table, {.first = 0});

    auto params = model::attention_params(model_.config(), model_.layer(layer), model_.positions());
    params.mask.query_start = cache_.size();
    ops::attention_forward(context_, a.attention_out, a.lse, {a.q, keys, cache_.values(layer, n), Tensor{}}, params);
}

void Decoder::feed(std::span<const int32_t> tokens) {
    while (static_cast<int64_t>(tokens.size()) > max_step_) {
        feed(tokens.first(static_cast<size_t>(max_step_)));
        tokens = tokens.subspan(static_cast<size_t>(max_step_));
    }
    const auto T = static_cast<int64_t>(tokens.size());
    require(T > 0, "a step of no tokens");
    if (cache_.size() + T > cache_.max_rows() && cache_.policy().bounded() && T > 1)
        for (int32_t token : tokens) feed({&token, 1});  // no room to take them together: one by one evicts as it goes
    else {
        Arena arena(buffer_.data(), buffer_.bytes());
        a_ = Activations(arena, model_.config(), model_.dtype(), PassKind::forward, 1, T);
        context_.copy_from_host(a_.ids, tokens.data());
        model_.forward_layers(
            context_, a_, [&](int64_t l, const Tensor& qkv, const model::LayerActivations& a) { attend(l, qkv, a); });
        cache_.commit(T);
        cache_.evict_after_forward(context_);
    }
}

Tensor Decoder::last_row() const {
    const Tensor& x = a_.final_out;
    require(!x.empty(), "nothing was fed yet");
    return x.slice(0, x.dim(0) - 1, x.dim(0));
}

std::vector<float> Decoder::logits() {
    model_.head_logits(context_, logits_, last_row());
    return context_.read_floats(logits_);
}

double Decoder::loss(int32_t next) {
    context_.copy_from_host(next_, &next);
    model_.head_losses(context_, loss_, last_row(), next_);
    return static_cast<double>(context_.read_floats(loss_).front());
}

}  // namespace ballast::infer
