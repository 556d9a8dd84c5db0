// What the model sees of the text before each scored token.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "infer/cache_policy.h"

namespace ballast::eval {

/// No cache: for every scored token, what the model's training samples began with (sink tokens, or their first token)
/// and the last tokens of the text run through the model again, `length` positions together.
struct Recompute {
    int64_t length = 0;
    int64_t sinks = 0;  // how many of these positions are the samples' beginning; evaluate_streaming() sets it
    bool operator==(const Recompute&) const = default;
};

/// Caches that differ between heads, given by a plan (infer/span_plan.h): the sinks of all heads, and the largest
/// cache.
struct Mixture {
    int64_t sinks = 0, positions = 0;
    bool operator==(const Mixture&) const = default;
};

/// A cache that chooses by score which rows it keeps or reads (infer/policy_table.h), with its number of positions.
struct Scored {
    std::string kind;  // the policy's name
    int64_t positions = 0;
    int64_t sinks = 0;  // of these, the first ones (infllm); 0 in files of older versions
    /// Whatever the sinks: a result's label has all numbers (StreamingResult::plan).
    bool operator==(const Scored& other) const { return kind == other.kind && positions == other.positions; }
};

using StreamingPolicy = std::variant<infer::CachePolicy, Recompute, Mixture, Scored>;

/// "4+60", "dense", "recompute", "moa", "h2o", "infllm": a column of a table.
std::string name_of(const StreamingPolicy& policy);
/// "dense", "window", "sink", "recompute", "moa", "h2o", "infllm".
std::string kind_name(const StreamingPolicy& policy);
/// Total positions; for a mixture, of its largest cache; 0: unbounded.
int64_t total_positions(const StreamingPolicy& policy);
/// Positions kept at the start.
int64_t sink_positions(const StreamingPolicy& policy);
/// The policy with these three values. UserError when there is none.
StreamingPolicy make_policy(const std::string& kind, int64_t sinks, int64_t positions);

}  // namespace ballast::eval
