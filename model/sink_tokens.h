// How learnable sink tokens enter a sample (StreamingLLM, section 4.2; the convention is ours where the paper is
// silent).
//
// All models see the same window of T+1 tokens t[0..T]. With n sink tokens the input is s_0 … s_{n-1}, t[0 … T-1-n], T
// positions in all; the last sink predicts t[0], position n+i predicts t[i+1]; sinks are never targets.
#pragma once

#include <cstdint>
#include <span>

#include "model/config.h"

namespace ballast::model {

/// Targets of positions that predict nothing.
inline constexpr int32_t kNoTarget = -1;

/// Fills inputs[T] and targets[T] from window[T+1]. n must be less than T.
void fill_sample(std::span<const int32_t> window, const ModelConfig& config, std::span<int32_t> inputs,
                 std::span<int32_t> targets);

/// For each of the sample's T positions the first that its query sees beside the sink tokens, where documents do not
/// see each other: document_starts[T+1] says of every token of the window where in it its document begins.
void fill_first_keys(std::span<const int32_t> document_starts, const ModelConfig& config,
                     std::span<int32_t> first_keys);

/// Positions of such a sample that have a target: T for n = 0, else T + 1 - n.
int64_t targets_per_sample(const ModelConfig& config, int64_t length);

}  // namespace ballast::model
