// Continues a text: reads the prompt through the cache, then samples one token at a time, for as many tokens as
// requested.
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

/// Continues texts with one model. The constructor allocates all memory, which is kept.
class Generator {
  public:
    Generator(Context& context, model::Transformer& model);

    /// The device memory of a Generator and of the ops' scratch, known before it is made.
    static size_t bytes(const model::ModelConfig& config, Dtype dtype);
    static size_t scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype);

    /// The token ids after `prompt`; the model's sink tokens are put in front of it. Only ids below `num_ids` are
    /// drawn: padding rows and sink tokens are not text. Beyond the trained context the cache keeps the sinks (at least
    /// one position) and the most recent positions.
    std::vector<int32_t> generate(std::span<const int32_t> prompt, int64_t num_ids, const SamplingOptions& options);

  private:
    const model::ModelConfig& config_;
    Decoder decoder_;
};

}  // namespace ballast::infer
