#include "moa/profiler.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <span>
#include <utility>

#include "base/error.h"
#include "base/philox.h"

namespace ballast::moa {
namespace {

constexpr int64_t kLogitRows = 64;  // positions whose logits are in memory at once

bool all_finite(const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
}

void require_finite(bool finite) {
    if (!finite)
        throw RunError(
            "the loss or an influence is not finite; look for NaN in the weights, or profile with --dtype f32");
}

int64_t blocks_of(int64_t length, int64_t block) { return (length + block - 1) / block; }

/// Ascending, each once. UserError for one that the model or the blocks do not allow.
std::vector<int64_t> checked_lengths(const model::ModelConfig& config, std::vector<int64_t> lengths, int64_t block) {
    std::sort(lengths.begin(), lengths.end());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    for (const int64_t length : lengths) {
        if (length > config.max_position_embeddings)
            throw UserError(fmt::format("a length of {}: the model was trained on {} positions", length,
                                        config.max_position_embeddings));
        if (length < 2 * block)
            throw UserError(fmt::format("a length of {} has fewer than two blocks of {}", length, block));
    }
    return lengths;
}

/// Values of one kind of influence at a length.
int64_t influence_count(const model::ModelConfig& config, int64_t length, int64_t block) {
    const int64_t blocks = blocks_of(length, block);
    return config.num_layers * config.num_heads * blocks * blocks;
}

/// Second-order losses at a length of each of `entries` heads in a layer.
int64_t second_order_count(const model::ModelConfig& config, int64_t entries, int64_t length, int64_t block) {
    return config.num_layers * entries * (blocks_of(length, block) - 1);
}

/// Of a LengthProfile.
size_t profile_bytes(const model::ModelConfig& config, int64_t length, int64_t block, int64_t draws) {
    int64_t count = 2 * influence_count(config, length, block);
    if (draws > 0)
        count += second_order_count(config, config.num_heads, length, block) +
                 second_order_count(config, config.key_value_heads(), length, block);
    return static_cast<size_t>(count) * sizeof(double);
}

/// What Profiler::add() takes on the host: a copy of the profile, the item's influence, labels, and logits of which one
/// row is summed.
size_t item_bytes(const model::ModelConfig& config, int64_t length, int64_t block, int64_t draws) {
    const int64_t floats = 2 * influence_count(config, length, block) + kLogitRows * config.vocab_size;
    return profile_bytes(config, length, block, draws) + static_cast<size_t>(floats) * sizeof(float) +
           static_cast<size_t>(draws * length) * sizeof(int32_t) +
           static_cast<size_t>(config.vocab_size) * sizeof(double);
}

}  // namespace

Profile empty_profile(const model::ModelConfig& config, std::vector<int64_t> lengths, int64_t block, int64_t draws) {
    Profile profile;
    profile.shape = infer::PlanShape::of(config);
    profile.max_positions = config.max_position_embeddings;
    profile.block = block;
    profile.draws = draws;
    for (const int64_t length : checked_lengths(config, std::move(lengths), block)) {
        LengthProfile& at = profile.lengths.emplace_back();
        at.length = length;
        at.absolute.assign(static_cast<size_t>(influence_count(config, length, block)), 0.0);
        at.signed_sum = at.absolute;
        if (draws == 0) continue;
        const auto zeros = [&](int64_t entries) {
            return std::vector<double>(static_cast<size_t>(second_order_count(config, entries, length, block)), 0.0);
        };
        at.second_order_heads = zeros(config.num_heads);
        at.second_order_groups = zeros(config.key_value_heads());
    }
    return profile;
}

Profiler::Layout::Layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block,
                         int64_t draws) {
    const int64_t L = config.num_layers, H = config.num_heads, blocks = blocks_of(length, block);
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

infer::MemoryList Profiler::memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                   const std::vector<int64_t>& lengths, int64_t block, int64_t draws) {
    const std::vector<int64_t> sorted = checked_lengths(config, lengths, block);
    const int64_t longest = sorted.back();
    constexpr auto kKind = model::PassKind::forward_backward;
    infer::MemoryList list{
        {"activations", model::Pass::activation_bytes(config, dtype, kKind, 1, longest, model::Recompute::full)},
        {"influence and logits of an item", bytes_of<Layout>(config, dtype, longest, block, draws)},
        {"kernel scratch", model::Pass::scratch_bytes(context, config, dtype, kKind, 1, longest)}};
    if (context.device() == Device::cuda) return list;
    size_t host = item_bytes(config, longest, block, draws);
    for (const int64_t length : sorted) host += profile_bytes(config, length, block, draws);
    list.emplace_back("profile", host);
    return list;
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
    const std::vector<float> absolute = context_.read_floats(of_.absolute),
                             signed_sum = context_.read_floats(of_.signed_sum);
    double loss = 0;
    for (const float value : context_.read_floats(pass_.losses())) loss += static_cast<double>(value);
    loss /= static_cast<double>(item.scored());
    require_finite(std::isfinite(loss) && all_finite(absolute) && all_finite(signed_sum));
    LengthProfile next = to;  // all of the item, or nothing of it
    if (draws_ > 0) {
        for (const std::vector<int32_t>& labels : draw_labels(item, to.sequences * draws_)) {
            pass_.set_tokens(ids, labels);
            add_draw(item, next);
        }
    }
    for (size_t i = 0; i < absolute.size(); ++i) {
        next.absolute[i] += static_cast<double>(absolute[i]);
        next.signed_sum[i] += static_cast<double>(signed_sum[i]);
    }
    next.loss += loss;
    next.answer_tokens += item.scored();
    ++next.sequences;
    to = std::move(next);
    return loss;
}

namespace {

/// Running sums of e^(logit - maximum) over the vocabulary, in which a uniform number finds its label.
void sum_up(std::span<const float> logits, std::vector<double>& running) {
    const double maximum = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    running.clear();
    for (const float logit : logits) running.push_back(sum += std::exp(static_cast<double>(logit) - maximum));
    require_finite(std::isfinite(sum));
}

}  // namespace

std::vector<std::vector<int32_t>> Profiler::draw_labels(const ItemTokens& item, int64_t first) {
    const auto V = static_cast<size_t>(model_.config().vocab_size);
    const Philox random(0, fmt::format("labels at {}", length_));
    std::vector<std::vector<int32_t>> labels(static_cast<size_t>(draws_),
                                             std::vector<int32_t>(static_cast<size_t>(length_), -1));
    std::vector<double> running;
    running.reserve(V);
    const int64_t begin = item.first_scored - 1, end = item.length() - 1;
    for (int64_t chunk = begin; chunk < end; chunk += kLogitRows) {
        const int64_t rows = std::min(kLogitRows, end - chunk);
        const Tensor logits = of_.logits.slice(0, 0, rows);
        model_.head_logits(context_, logits, pass_.activations().final_out.slice(0, chunk, chunk + rows));
        const std::vector<float> values = context_.read_floats(logits);
        for (int64_t at = chunk; at < chunk + rows; ++at) {
            sum_up(std::span(values).subspan(static_cast<size_t>(at - chunk) * V, V), running);
            for (int64_t n = 0; n < draws_; ++n) {
                const auto index = static_cast<uint64_t>((first + n) * length_ + at - begin);
                const double place = random.uniform(index) * running.back();
                labels[static_cast<size_t>(n)][static_cast<size_t>(at)] =
                    static_cast<int32_t>(std::upper_bound(running.begin(), running.end() - 1, place) - running.begin());
            }
        }
    }
    return labels;
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
    const std::vector<float> effect = context_.read_floats(of_.effect);
    require_finite(all_finite(effect));
    const double scale = 0.5 / static_cast<double>(item.scored());
    for (int64_t lg = 0; lg < config.num_layers * groups; ++lg)
        for (int64_t m = 0; m < spans; ++m) {
            double group_effect = 0;
            for (int64_t h = lg * (heads / groups); h < (lg + 1) * (heads / groups); ++h) {
                const auto head_effect = static_cast<double>(effect[static_cast<size_t>(h * spans + m)]);
                to.second_order_heads[static_cast<size_t>(h * spans + m)] += scale * head_effect * head_effect;
                group_effect += head_effect;
            }
            to.second_order_groups[static_cast<size_t>(lg * spans + m)] += scale * group_effect * group_effect;
        }
    ++to.draws;
}

}  // namespace ballast::moa
