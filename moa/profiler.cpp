#include "moa/profiler.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::moa {
namespace {

std::vector<int64_t> influence_shape(const model::ModelConfig& config, int64_t length, int64_t block) {
    const int64_t blocks = (length + block - 1) / block;
    return {config.num_layers, config.num_heads, blocks, blocks};
}

void layout(Arena& arena, const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block,
            Tensor& absolute, Tensor& signed_sum) {
    const auto shape = influence_shape(config, length, block);
    const auto make = [&] { return arena.tensor(accumulation_dtype(dtype), {shape[0], shape[1], shape[2], shape[3]}); };
    absolute = make();
    signed_sum = make();
}

size_t own_bytes(const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block) {
    Arena plan;
    Tensor absolute, signed_sum;
    layout(plan, config, dtype, length, block, absolute, signed_sum);
    return plan.peak_bytes();
}

std::vector<double> on_host(Context& context, const Tensor& tensor) {
    std::vector<float> narrow(static_cast<size_t>(tensor.numel()));
    context.copy_to_host(narrow.data(), tensor);
    return {narrow.begin(), narrow.end()};
}

bool all_finite(const std::vector<double>& values) {
    return std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

}  // namespace

Profile empty_profile(const model::ModelConfig& config, std::vector<int64_t> lengths, int64_t block) {
    std::sort(lengths.begin(), lengths.end());
    lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
    Profile profile;
    profile.shape = infer::PlanShape::of(config);
    profile.max_positions = config.max_position_embeddings;
    profile.block = block;
    for (const int64_t length : lengths) {
        if (length > config.max_position_embeddings)
            throw UserError(fmt::format("a length of {}: the model was trained on {} positions", length,
                                        config.max_position_embeddings));
        if (length < 2 * block)
            throw UserError(fmt::format("a length of {} has fewer than two blocks of {}", length, block));
        LengthProfile& at = profile.lengths.emplace_back();
        at.length = length;
        const auto shape = influence_shape(config, length, block);
        const auto count = static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]);
        at.absolute.assign(count, 0.0);
        at.signed_sum.assign(count, 0.0);
    }
    return profile;
}

Profiler::Profiler(Context& context, model::Transformer& model, int64_t length, int64_t block)
    : context_(context),
      model_(model),
      length_(length),
      block_(block),
      pass_(context, model, model::PassKind::forward_backward, 1, length, model::Recompute::full),
      buffer_(context.allocate(own_bytes(model.config(), model.dtype(), length, block))) {
    require(accumulation_dtype(model.dtype()) == Dtype::f32, "a profile is taken in f32, bf16 or fp16");
    Arena arena(buffer_.data(), buffer_.bytes());
    layout(arena, model.config(), model.dtype(), length, block, absolute_, signed_sum_);
}

size_t Profiler::bytes(const model::ModelConfig& config, Dtype dtype, int64_t length, int64_t block) {
    return own_bytes(config, dtype, length, block) + model::Pass::activation_bytes(config, dtype,
                                                                                   model::PassKind::forward_backward, 1,
                                                                                   length, model::Recompute::full);
}

double Profiler::add(const ItemTokens& item, LengthProfile& to) {
    require(item.length() <= length_ && to.length == length_, "an item of another length");
    std::vector<int32_t> ids = item.ids;
    ids.resize(static_cast<size_t>(length_), item.ids.back());
    pass_.set_tokens(ids, item.targets(length_));
    context_.zero(absolute_);
    context_.zero(signed_sum_);
    pass_.backward_activations(1.0 / static_cast<double>(item.scored()), [&](int64_t l, const model::BlockGradients& g,
                                                                             const model::LayerActivations& a) {
        ops::attention_influence(context_, {absolute_.slice(0, l, l + 1), signed_sum_.slice(0, l, l + 1)}, block_,
                                 g.d_attention_out, a.attention_out, a.lse, {a.q, a.k, a.v, Tensor{}},
                                 model_.attention(l));
    });
    const std::vector<double> losses = on_host(context_, pass_.losses()), absolute = on_host(context_, absolute_),
                              signed_sum = on_host(context_, signed_sum_);
    double loss = 0;
    for (const double value : losses) loss += value;
    loss /= static_cast<double>(item.scored());
    if (!std::isfinite(loss) || !all_finite(absolute) || !all_finite(signed_sum))
        throw RunError(
            "the loss or an influence is not finite; look for NaN in the weights, or profile with --dtype f32");
    for (size_t i = 0; i < absolute.size(); ++i) {
        to.absolute[i] += absolute[i];
        to.signed_sum[i] += signed_sum[i];
    }
    to.loss += loss;
    to.answer_tokens += item.scored();
    ++to.sequences;
    return loss;
}

}  // namespace ballast::moa
