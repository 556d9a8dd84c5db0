// The table of StreamingLLM's section 4.2: the perplexity of models under cache policies, over the same tokens, and the
// share of attention on the first position.
#pragma once

#include <string>
#include <vector>

#include "eval/measurement.h"

namespace ballast::eval {

struct CacheTableOptions {
    int64_t cache = 0;                       // C, total positions of every bounded policy and of recompute
    std::vector<int64_t> sinks{0, 1, 2, 4};  // x of the columns x + (C - x)
    int64_t recompute_every = 16;            // recompute scores every k-th token
    StreamingMethod method = StreamingMethod::masked;
    SinkOptions sink_metrics;  // its first_id is what the text begins with, and what recompute's windows begin with
};

struct CacheTableRow {
    std::string model;                   // its name in the table
    std::vector<StreamingResult> cells;  // the columns x + (C - x), then dense, then recompute
    SinkResult sinks;
};

/// UserError for options that evaluate_cache_table() would refuse, for callers with other work to do first: a cache
/// that does not suit the model, or a text of `num_tokens` tokens that is too short.
void check_cache_table(const model::ModelConfig& config, int64_t num_tokens, const CacheTableOptions& options);

/// What evaluate_cache_table() takes over a text of `num_tokens` tokens for a model that computes in `dtype`: the
/// largest of its measurements.
MeasurementMemory cache_table_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                     int64_t num_tokens, const CacheTableOptions& options);

/// Shows its progress on the terminal, under `name`.
CacheTableRow evaluate_cache_table(Context& context, const std::string& name, model::Transformer& model,
                                   const std::vector<uint32_t>& text, const CacheTableOptions& options);

/// The row in the form of the measurement files; `model` and `step` as in MeasuredModel.
MeasuredModel to_measured_model(CacheTableRow row, const std::string& model, int64_t step);

/// The perplexity of `cell` over only the tokens that `subset` scored.
double perplexity_on_subset(const StreamingResult& cell, const StreamingResult& subset);

/// Plain text for a terminal: the table, its notes, and attention on the first position by layer.
std::string format_cache_table(const std::vector<CacheTableRow>& rows);

}  // namespace ballast::eval
