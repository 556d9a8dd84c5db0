#include "infer/generate.h"

#include <algorithm>

#include "base/philox.h"

namespace ballast::infer {

namespace {

CachePolicy policy_for(const model::ModelConfig& config) {
    const int64_t sinks = std::max<int64_t>(1, config.num_sink_tokens);
    return CachePolicy::sink(sinks, std::max<int64_t>(1, config.max_position_embeddings - 1 - sinks));
}

}  // namespace

Generator::Generator(Context& context, model::Transformer& model)
    : config_(model.config()), decoder_(context, model, policy_for(model.config()), 0) {}

size_t Generator::bytes(const model::ModelConfig& config, Dtype dtype) {
    return Decoder::bytes(config, dtype, policy_for(config), 0);
}

size_t Generator::scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype) {
    return Decoder::scratch_bytes(context, config, dtype, policy_for(config), 0);
}

std::vector<int32_t> Generator::generate(std::span<const int32_t> prompt, int64_t num_ids,
                                         const SamplingOptions& options) {
    std::vector<int32_t> fed;
    for (int64_t i = 0; i < config_.num_sink_tokens; ++i)
        fed.push_back(static_cast<int32_t>(config_.sink_token_id + i));
    fed.insert(fed.end(), prompt.begin(), prompt.end());
    require(!fed.empty(), "generation needs a prompt");

    decoder_.reset();
    decoder_.feed(fed);
    const Philox random(options.seed, "generate");
    std::vector<int32_t> out;
    while (static_cast<int64_t>(out.size()) < options.num_tokens) {
        const std::vector<float> logits = decoder_.logits();
        const auto ids = std::span(logits).first(static_cast<size_t>(num_ids));
        out.push_back(sample(ids, options.temperature, random.uniform(out.size())));
        decoder_.feed({&out.back(), 1});
        options.after_token();
    }
    return out;
}

}  // namespace ballast::infer
