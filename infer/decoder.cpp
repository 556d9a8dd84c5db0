#include "infer/decoder.h"

#include <algorithm>

namespace ballast::infer {
namespace {

constexpr int64_t kLongestStep = 512;  // a longer prompt goes in several steps

using model::Activations;
using model::PassKind;

/// Rows of the cache: what it keeps and the token under way.
int64_t rows_of(const CachePolicy& policy, int64_t max_positions) {
    return policy.bounded() ? policy.capacity() + 1 : std::max<int64_t>(1, max_positions);
}

/// Tokens that are fed at once.
int64_t step_of(int64_t rows) { return std::min(kLongestStep, rows); }

size_t step_bytes(const model::ModelConfig& config, Dtype dtype, int64_t rows) {
    return model::Pass::activation_bytes(config, dtype, PassKind::forward, 1, step_of(rows));
}

}  // namespace

Decoder::Layout::Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t max_rows)
    : rotated_keys(arena.tensor(dtype, {1, max_rows, config.key_value_heads(), config.head_dim()})),
      next(arena.tensor(Dtype::i32, {1})),
      loss(arena.tensor(accumulation_dtype(dtype), {1})),
      logits(arena.tensor(accumulation_dtype(dtype), {1, config.vocab_size})) {}

size_t Decoder::own_bytes(const model::ModelConfig& config, Dtype dtype, int64_t rows) {
    Arena plan;
    Layout(plan, config, dtype, rows);
    return plan.peak_bytes();
}

MemoryList Decoder::memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                           const CachePolicy& policy, int64_t max_positions) {
    const int64_t rows = rows_of(policy, max_positions);
    return {{"keys and values", KeyValueCache::bytes(config, dtype, rows) + own_bytes(config, dtype, rows)},
            {"activations", step_bytes(config, dtype, rows)},
            {"kernel scratch",
             model::Pass::scratch_bytes(context, config, dtype, PassKind::forward, 1, step_of(rows), weights)}};
}

Decoder::Decoder(Context& context, model::Transformer& model, const CachePolicy& policy, int64_t max_positions)
    : context_(context),
      model_(model),
      cache_(context, model.config(), model.dtype(), policy, rows_of(policy, max_positions)),
      max_step_(step_of(cache_.max_rows())),
      step_buffer_(context.allocate(step_bytes(model.config(), model.dtype(), cache_.max_rows()))),
      buffer_(context.allocate(own_bytes(model.config(), model.dtype(), cache_.max_rows()))),
      layout_([&] {
          Arena arena(buffer_.data(), buffer_.bytes());
          return Layout(arena, model.config(), model.dtype(), cache_.max_rows());
      }()) {
    model.positions().ensure(context, cache_.max_rows());
    context.scratch().reserve(
        model::Pass::scratch_bytes(context, model.config(), model.dtype(), PassKind::forward, 1, max_step_));
}

void Decoder::reset() {
    cache_.clear();
    a_ = {};
}

void Decoder::attend(int64_t layer, const Tensor& qkv, const model::LayerActivations& a) {
    const int64_t T = a.q.dim(1), n = cache_.size() + T;
    const Tensor table = model_.positions().rope();
    ops::qkv_split_rope_forward(context_, a.q, cache_.key_slots(layer, T), cache_.value_slots(layer, T), qkv, Tensor{},
                                {}, model_.qkv_layout());
    ops::rope_forward(context_, a.q, a.q, table, {.first = cache_.size()});
    const Tensor keys = layout_.rotated_keys.slice(1, 0, n);
    ops::rope_forward(context_, keys, cache_.keys(layer, n), table, {.first = 0});

    auto params = model_.attention(layer);
    params.mask.query_start = cache_.size();
    if (cache_.policy().bounded())  // what it pins escapes the model's windows; a dense cache leaves that to the model
        params.mask.num_sink_positions = params.mask.key_start = cache_.policy().num_sink_positions;
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
        Arena arena(step_buffer_.data(), step_buffer_.bytes());
        a_ = Activations(arena, model_.config(), model_.dtype(), PassKind::forward, 1, T);
        context_.copy_from_host(a_.ids, tokens.data());
        model_.positions().set_sequence_length(context_, cache_.size() + T);
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
    model_.head_logits(context_, layout_.logits, last_row());
    return context_.read_floats(layout_.logits);
}

double Decoder::loss(int32_t next) {
    context_.copy_from_host(layout_.next, &next);
    model_.head_losses(context_, layout_.loss, last_row(), layout_.next);
    return static_cast<double>(context_.read_floats(layout_.loss).front());
}

}  // namespace ballast::infer
