#include "train/sample_writer.h"

#include <algorithm>
#include <utility>

namespace ballast::train {
namespace {

infer::CachePlan plan_for(const model::ModelConfig& config) {
    const int64_t sinks = std::max<int64_t>(1, config.num_sink_tokens);
    const int64_t recent = std::max<int64_t>(1, config.max_position_embeddings - 1 - sinks);
    return infer::CachePlan::uniform(infer::CachePolicy::sink(sinks, recent), config.num_layers, config.num_heads);
}

infer::CacheOptions options_for(const model::ModelConfig& config) {
    return {.prefill_chunk = std::min(infer::CacheOptions{}.prefill_chunk, config.max_position_embeddings)};
}

infer::CacheSizes sizes_for(const model::ModelConfig& config, Dtype dtype) {
    return {config, dtype, plan_for(config), options_for(config)};
}

}  // namespace

SampleWriter::SampleWriter(Context& context, model::Transformer& model, int64_t num_ids)
    : engine_(context, model, plan_for(model.config()), options_for(model.config()), num_ids) {}

size_t SampleWriter::bytes(const Context& context, const model::ModelConfig& config, Dtype dtype) {
    const infer::CacheSizes sizes = sizes_for(config, dtype);
    return infer::total_bytes(infer::CachedModel::memory(context, config, dtype, dtype, sizes)) -
           infer::CachedModel::scratch_bytes(context, config, dtype, dtype, sizes);
}

size_t SampleWriter::scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype) {
    return infer::CachedModel::scratch_bytes(context, config, dtype, dtype, sizes_for(config, dtype));
}

infer::Answer SampleWriter::write(std::vector<int32_t> prompt, const SampleConfig& sample, uint64_t seed,
                                  const std::function<void()>& after_token) {
    const int64_t text = engine_.submit({.prompt = std::move(prompt),
                                         .max_tokens = sample.tokens,
                                         .sampling = {.temperature = sample.temperature, .seed = seed},
                                         .on_token = [&](const infer::SampledToken&) {
                                             after_token();
                                             return true;
                                         }});
    while (engine_.step()) {
    }
    return engine_.take(text);
}

}  // namespace ballast::train
