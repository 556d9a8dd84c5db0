// How learnable sink tokens are added to a sample (StreamingLLM, section 4.2; details that the paper leaves open are
// our own convention).
//
// All models see the same window of T+1 tokens t[0..T]. With n sink tokens the input is s_0 … s_{n-1}, t[0 … T-1-n], T
// positions in all; the last sink predicts t[0], position n+i predicts t[i+1]; sinks are never targets.
#pragma once

#include <cstdint>
#include <span>

#include "model/config.h"

namespace ballast::model {

/// The target of a position that predicts nothing.
inline constexpr int32_t kNoTarget = -1;

/// Fills inputs[T] and targets[T] from window[T+1]. n must be less than T.
void fill_sample(std::span<const int32_t> window, const ModelConfig& config, std::span<int32_t> inputs,
                 std::span<int32_t> targets);

/// For each of the sample's T positions: the first position that its query sees besides the sink tokens, when documents
/// must not see each other. document_starts[T+1] gives, for every token of the window, the index in the window at which
/// its document begins.
void fill_first_keys(std::span<const int32_t> document_starts, const ModelConfig& config,
                     std::span<int32_t> first_keys);

/// The number of positions of a sample that have a target: T for n = 0, else T + 1 - n.
int64_t targets_per_sample(const ModelConfig& config, int64_t length);

}  // namespace ballast::model
