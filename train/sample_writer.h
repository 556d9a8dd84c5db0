// The sample texts of a run, written with the engine of `ballast generate`.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "infer/engine.h"
#include "train/run_config.h"

namespace ballast::train {

/// Allocates all memory when it is made, and keeps it. Beyond the trained context the cache keeps the sinks (at least
/// one position) and the most recent positions.
class SampleWriter {
  public:
    /// Only ids below `num_ids` are drawn: padding rows are not text.
    SampleWriter(Context& context, model::Transformer& model, int64_t num_ids);

    /// The device memory of a SampleWriter and of the ops' scratch, known before it is made.
    static size_t bytes(const Context& context, const model::ModelConfig& config, Dtype dtype);
    static size_t scratch_bytes(const Context& context, const model::ModelConfig& config, Dtype dtype);

    /// What the model goes on with after `prompt`. The same seed, model and prompt give the same text.
    infer::Answer write(std::vector<int32_t> prompt, const SampleConfig& sample, uint64_t seed,
                        const std::function<void()>& after_token);

  private:
    infer::Engine engine_;
};

}  // namespace ballast::train
