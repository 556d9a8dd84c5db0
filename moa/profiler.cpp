#include "moa/profiler.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "base/philox.h"

namespace ballast::moa {
namespace {

constexpr int64_t kLogitRows = 64;  // positions whose logits are in memory at once

bool all_finite(const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

void require_finite(bool finite) {
    if (!finite)
        throw RunError(
            "the loss or an influence is not finite; look for NaN in the weights, or profile with --dtype f32");
}

}  // namespace

Profile empty_profile(const model::ModelConfig& config, std::vector<int64_t> lengths, int64_t block, int64_t draws) {
    std::sort(lengths.begin(), lengths.end());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    Profile profile;
    profile.shape = infer::PlanShape::of(config);
    profile.max_positions = config.max_position_embeddings;
    profile.block = block;
    profile.draws = draws;
    for (const int64_t length : lengths) {
        if (length > config.max_position_embeddings)
            throw UserError(fmt::format("a length of {}: the model was trained on {} positions", length,
                                        config.max_position_embeddings));
        if (length < 2 * block)
            throw UserError(fmt::format("a length of {} has fewer than two blocks of {}", length, block));
        LengthProfile& at = profile.lengths.emplace_back();
        at.length = length;
        const int64_t blocks = profile.blocks(at), heads = config.num_layers * config.num_heads;
        at.absolute.assign(static_cast<size_t>(heads * blocks * blocks), 0.0);
        at.signed_sum = at.absolute;
        if (draws == 0) continue;
        at.second_order_heads.assign(static_cast<size_t>(heads * profile.spans(at)), 0.0);
        at.second_order_groups.assign(
            static_cast<size_t>(config.num_layers * config.key_value_heads() * profile.spans(at)), 0.0);
    }
    return profile;
}

Profiler::Layout::Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block,
                         int64_t draws) {
    const int64_t L = config.num_layers, H = config.num_heads, blocks = (length + block - 1) / block;
    const Dtype acc = accumulation_dtype(dtype);
    absolute = arena.tensor(acc, {L, H, blocks, blocks});
    signed_sum = arena.tensor(acc, {L, H, blocks, blocks});
    if (draws == 0) return;
    effect = arena.tensor(acc, {L, H, blocks - 1});
    logits = arena.tensor(acc, {std::min(kLogitRows, length), config.vocab_size});
}

namespace {

template <class Layout>
size_t bytes_of(const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block, int64_t draws) {
    Arena plan;
    Layout(plan, config, dtype, length, block, draws);
    return plan.peak_bytes();
}

}  // namespace

Profiler::Profiler(Context& context, model::Transformer& model, int64_t length, int64_t block, int64_t draws)
    : context_(context),
      model_(model),
      length_(length),
      block_(block),
      draws_(draws),
      pass_(context, model, model::PassKind::forward_backward, 1, length, model::Recompute::full),
      buffer_(context.allocate(bytes_of<Layout>(model.config(), model.dtype(), length, block, draws))),
      of_([&] {
          Arena arena(buffer_.data(), buffer_.bytes());
          return Layout(arena, model.config(), model.dtype(), length, block, draws);
      }()) {
    require(accumulation_dtype(model.dtype()) == Dtype::f32, "a profile is taken in f32, bf16 or fp16");
}

size_t Profiler::bytes(const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block, int64_t draws) {
    return bytes_of<Layout>(config, dtype, length, block, draws) +
           model::Pass::activation_bytes(config, dtype, model::PassKind::forward_backward, 1, length,
                                         model::Recompute::full);
}

std::vector<double> Profiler::on_host(const Tensor& tensor) const {
    const std::vector<float> narrow = context_.read_floats(tensor);
    return {narrow.begin(), narrow.end()};
}

double Profiler::add(const ItemTokens& item, LengthProfile& to) {
    require(item.length() <= length_ && to.length == length_, "an item of another length");
    std::vector<int32_t> ids = item.ids;
    ids.resize(static_cast<size_t>(length_), item.ids.back());
    pass_.set_tokens(ids, item.targets(length_));
    context_.zero(of_.absolute);
    context_.zero(of_.signed_sum);
    pass_.backward_activations(1.0 / static_cast<double>(item.scored()), [&](int64_t l, const model::BlockGradients& g,
                                                                             const model::LayerActivations& a) {
        ops::attention_influence(context_, {of_.absolute.slice(0, l, l + 1), of_.signed_sum.slice(0, l, l + 1)}, block_,
                                 g.d_attention_out, a.attention_out, a.lse, {a.q, a.k, a.v, Tensor{}},
                                 model_.attention(l));
    });
    const std::vector<double> losses = on_host(pass_.losses()), absolute = on_host(of_.absolute),
                              signed_sum = on_host(of_.signed_sum);
    double loss = 0;
    for (const double value : losses) loss += value;
    loss /= static_cast<double>(item.scored());
    require_finite(std::isfinite(loss) && all_finite(absolute) && all_finite(signed_sum));
    LengthProfile next = to;  // all of the item, or nothing of it
    if (draws_ > 0) {
        const auto position_distributions = distributions(item);
        for (int64_t n = 0; n < draws_; ++n) {
            pass_.set_tokens(ids, draw_labels(item, position_distributions, to.sequences * draws_ + n));
            add_draw(item, next);
        }
    }
    for (size_t i = 0; i < absolute.size(); ++i) {
        next.absolute[i] += absolute[i];
        next.signed_sum[i] += signed_sum[i];
    }
    next.loss += loss;
    next.answer_tokens += item.scored();
    ++next.sequences;
    to = std::move(next);
    return loss;
}

std::vector<std::vector<double>> Profiler::distributions(const ItemTokens& item) {
    const int64_t V = model_.config().vocab_size;
    std::vector<std::vector<double>> out;
    for (int64_t first = item.first_scored - 1; first < item.length() - 1; first += kLogitRows) {
        const int64_t rows = std::min(kLogitRows, item.length() - 1 - first);
        const Tensor logits = of_.logits.slice(0, 0, rows);
        model_.head_logits(context_, logits, pass_.activations().final_out.slice(0, first, first + rows));
        const std::vector<float> values = context_.read_floats(logits);
        for (int64_t r = 0; r < rows; ++r) {
            const auto row = std::span(values).subspan(static_cast<size_t>(r * V), static_cast<size_t>(V));
            const double maximum = *std::max_element(row.begin(), row.end());
            double sum = 0;
            auto& running = out.emplace_back();
            running.reserve(row.size());
            for (const float logit : row) running.push_back(sum += std::exp(static_cast<double>(logit) - maximum));
            require_finite(std::isfinite(sum));
        }
    }
    return out;
}

std::vector<int32_t> Profiler::draw_labels(const ItemTokens& item,
                                           const std::vector<std::vector<double>>& distributions,
                                           int64_t number) const {
    const Philox random(0, fmt::format("labels at {}", length_));
    std::vector<int32_t> targets(static_cast<size_t>(length_), -1);
    for (int64_t i = 0; i < item.scored(); ++i) {
        const std::vector<double>& running = distributions[static_cast<size_t>(i)];
        const double at = random.uniform(static_cast<uint64_t>(number * length_ + i)) * running.back();
        const auto label = std::upper_bound(running.begin(), running.end() - 1, at) - running.begin();
        targets[static_cast<size_t>(item.first_scored - 1 + i)] = static_cast<int32_t>(label);
    }
    return targets;
}

/// The pass has the drawn labels; `to` gets half the squared effects, a scored token.
void Profiler::add_draw(const ItemTokens& item, LengthProfile& to) {
    const model::ModelConfig& config = model_.config();
    const int64_t heads = config.num_heads, groups = config.key_value_heads(), spans = of_.effect.dim(2);
    context_.zero(of_.effect);
    pass_.backward_activations(1.0, [&](int64_t l, const model::BlockGradients& g, const model::LayerActivations& a) {
        ops::attention_span_effect(context_, of_.effect.slice(0, l, l + 1), block_, block_, g.d_attention_out,
                                   a.attention_out, a.lse, {a.q, a.k, a.v, Tensor{}}, model_.attention(l));
    });
    const std::vector<double> effect = on_host(of_.effect);
    require_finite(all_finite(effect));
    const double scale = 0.5 / static_cast<double>(item.scored());
    for (int64_t lg = 0; lg < config.num_layers * groups; ++lg)
        for (int64_t m = 0; m < spans; ++m) {
            double group_effect = 0;
            for (int64_t h = lg * (heads / groups); h < (lg + 1) * (heads / groups); ++h) {
                const double head_effect = effect[static_cast<size_t>(h * spans + m)];
                to.second_order_heads[static_cast<size_t>(h * spans + m)] += scale * head_effect * head_effect;
                group_effect += head_effect;
            }
            to.second_order_groups[static_cast<size_t>(lg * spans + m)] += scale * group_effect * group_effect;
        }
    ++to.draws;
}

}  // namespace ballast::moa
