// Losses of every token of a text: through the paged cache, and in one pass under the mask that the plan means.
#pragma once

#include <algorithm>
#include <vector>

#include "base/larger_or_nan.h"
#include "infer/cached_model.h"
#include "tests/model/model_fixture.h"

namespace ballast::test {

/// A text with the targets that score it: each token's successor.
struct ScoredText {
    std::vector<int32_t> tokens, targets;
    ScoredText(uint32_t seed, size_t length, int64_t ids)
        : tokens(random_ids(seed, length, ids)), targets(tokens.begin() + 1, tokens.end()) {
        targets.push_back(-1);
    }
};

/// -log p of `targets` after the rows that a cached model computed last.
inline std::vector<double> losses_of_step(Context& context, model::Transformer& model, const infer::CachedModel& cached,
                                          std::span<const int32_t> targets) {
    const auto N = std::ssize(targets);
    const DeviceBuffer memory = context.allocate(static_cast<size_t>(N) * 12);
    const Tensor losses(memory.data(), accumulation_dtype(model.dtype()), {N});
    const Tensor wanted(static_cast<char*>(memory.data()) + 8 * N, Dtype::i32, {N});
    context.copy_from_host(wanted, targets.data());
    model.head_losses(context, losses, cached.final_out(), wanted);
    return to_host(context, losses);
}

/// The first `prompt` tokens in chunks, the others one at a time.
inline std::vector<double> cached_losses(Context& context, model::Transformer& model, infer::CachedModel& cached,
                                         const ScoredText& s, int64_t prompt) {
    const auto length = std::ssize(s.tokens);
    infer::CachedText text = cached.open(length);
    const std::span tokens(s.tokens), targets(s.targets);
    std::vector<double> out;
    for (int64_t at = 0, count; at < length; at += count) {
        count = at < prompt ? cached.next_chunk(text, prompt - at) : 1;
        const auto piece = tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(count));
        infer::CachedText* const one = &text;
        if (at < prompt) {
            cached.prefill(text, piece);
            if (at + count == prompt) cached.end_prompt(text);
        } else {
            cached.decode({&one, 1}, piece);
        }
        const auto losses =
            losses_of_step(context, model, cached, targets.subspan(static_cast<size_t>(at), piece.size()));
        out.insert(out.end(), losses.begin(), losses.end());
    }
    return out;
}

/// The whole text at once: keys rotated at their place in it, the mask as the plan says it in words, the second query
/// of StreamingLLM at min(i, C).
inline std::vector<double> masked_losses(Context& context, model::Transformer& model, const infer::CachePlan& plan,
                                         const ScoredText& s) {
    const auto& config = model.config();
    const auto T = std::ssize(s.tokens);
    const int64_t H = config.num_heads, D = config.head_dim();
    const bool in_cache = plan.bounded() && plan.rule() == infer::PositionRule::in_cache;
    const int64_t at_most = in_cache ? plan.capacity() : T;
    model.positions().ensure(context, T);
    const DeviceBuffer buffer =
        context.allocate(model::Pass::activation_bytes(config, model.dtype(), model::PassKind::forward, 1, T));
    Arena arena(buffer.data(), buffer.bytes());
    model::Activations a(arena, config, model.dtype(), model::PassKind::forward, 1, T);
    const DeviceBuffer more = context.allocate(static_cast<size_t>(T * H * D * 8 + H * 4));
    const Tensor second(more.data(), model.dtype(), {1, T, H, D});
    const Tensor spans(static_cast<char*>(more.data()) + T * H * D * 8, Dtype::i32, {H});
    context.copy_from_host(a.ids, s.tokens.data());
    context.copy_from_host(a.targets, s.targets.data());
    model.forward_layers(context, a, [&](int64_t l, const Tensor& qkv, const model::LayerActivations& layer) {
        const Tensor table = model.positions().rope();
        ops::qkv_split_rope_forward(context, layer.q, layer.k, layer.v, qkv, Tensor{}, {}, model.qkv_layout());
        ops::rope_forward(context, second, layer.q, table, {.last = at_most});
        ops::rope_forward(context, layer.q, layer.q, table, {});
        ops::rope_forward(context, layer.k, layer.k, table, {});
        const int64_t window = config.span_of_layer(l);
        std::vector<int32_t> visible;
        for (int64_t h = 0; h < H; ++h) {
            const int64_t span = plan.cache(l, h).span < 0 ? T : plan.cache(l, h).span;
            visible.push_back(static_cast<int32_t>(window > 0 ? std::min(span, window) : span));
        }
        context.copy_from_host(spans, visible.data());
        auto params = model.attention(l);
        params.mask.span_H = spans;
        params.mask.num_sink_positions = params.mask.key_start =
            plan.bounded() || plan.sinks() > 0 ? plan.sinks() : config.num_sink_tokens;
        params.sink_query_position = at_most;
        ops::attention_forward(context, layer.attention_out, layer.lse,
                               {layer.q, layer.k, layer.v, in_cache && plan.sinks() > 0 ? second : Tensor{}}, params);
    });
    model.head_losses(context, a.losses, a.final_out, a.targets);
    return to_host(context, a.losses);
}

/// The largest difference; NaN where there is one.
inline double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    if (a.size() != b.size()) return NAN;
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i) worst = larger_or_nan(worst, std::abs(a[i] - b[i]));
    return worst;
}

}  // namespace ballast::test
