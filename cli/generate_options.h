// What `ballast generate` is told.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/text_options.h"
#include "infer/engine.h"
#include "infer/policy_table.h"

namespace ballast {

struct GenerateOptions {
    std::string model, prompt, prompts, json, system, cache_dtype, weights = "same";
    bool chat = false, resume = false;
    int64_t max_tokens = 64, max_positions = 0, max_batch = 8, cache_blocks = 0, prefill_chunk = 256, alternatives = 0;
    std::vector<std::string> stop;
    infer::PolicyChoice policy{.policy = ""};  // empty: dense, or sink for a stream
    infer::SamplingParams sampling;
    TextOptions run;
    std::string settings;  // of those above, what decides the answers to given prompts and is not the default

    void add_to(Command command);
    /// Sets `settings`, once the command line is read.
    void note_settings(const Command& command);
    /// The prompt is a stream on standard input, whose end nobody knows.
    bool is_stream() const { return prompt == "-"; }
    /// UserError for options that contradict each other, and for a file that cannot be written.
    void check() const;
    /// The longest text where nobody knows its length: that of the plan's range, within the model's positions; 0:
    /// nothing limits it but the policy.
    int64_t longest_of_plan(const model::ModelConfig& config) const;
    /// The plan for texts of at most `longest` positions.
    infer::CachePlan plan(const model::ModelConfig& config, int64_t longest) const;
    /// The cache for them, `batch` at once.
    infer::CacheOptions cache(const infer::CachePlan& plan, const model::ModelConfig& config, int64_t longest,
                              int64_t batch) const;
};

}  // namespace ballast
