// Continues a text: prompt through the cache, then one sampled token at a time, for as long as asked.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "infer/decoder.h"
#include "infer/sampling.h"

namespace ballast::infer {

struct SamplingOptions {
    int64_t num_tokens = 64;
    double temperature = 1.0;  // 0: always the most likely token
    uint64_t seed = 1234;      // the same seed, model and prompt give the same text
    std::function<void()> after_token = [] {};
};

/// Continues texts with one model. All its memory is taken when it is made, and kept.
class Generator {
  public:
    Generator(Context& context, model::Transformer& model);

    /// Device memory of one, and of the ops' scratch that it needs, known before it is made.
    static size_t bytes(const model::ModelConfig& config, Dtype dtype);
    static size_t scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype);

    /// Token ids after `prompt` (the model's sink tokens are put before it). Only ids below `num_ids` are drawn:
    /// padding rows and sink tokens are no text. Past the trained context the cache keeps sinks (at least one position)
    /// and the most recent.
    std::vector<int32_t> generate(std::span<const int32_t> prompt, int64_t num_ids, const SamplingOptions& options);

  private:
    const model::ModelConfig& config_;
    Decoder decoder_;
};

}  // namespace ballast::infer
