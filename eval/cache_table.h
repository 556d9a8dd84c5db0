// The table of StreamingLLM's section 4.2: models against cache policies, perplexity over the same tokens, and beside
// it how much attention falls on the first position.
#pragma once

#include <string>
#include <vector>

#include "eval/sinks.h"
#include "eval/streaming.h"

namespace ballast::eval {

struct CacheTableOptions {
    int64_t cache = 0;                       // C, total positions of every bounded policy and of recompute
    std::vector<int64_t> sinks{0, 1, 2, 4};  // x of the columns x + (C - x)
    int64_t recompute_every = 16;            // recompute scores every k-th token
    StreamingMethod method = StreamingMethod::masked;
    SinkOptions sink_metrics;
};

struct CacheTableRow {
    std::string model;
    std::vector<StreamingResult> cells;  // the columns x + (C - x), then dense, then recompute
    SinkResult sinks;
};

/// Called before each cell with the model's name, the cell's and the tokens done in it.
using CacheTableProgress = std::function<void(const std::string& cell, int64_t done)>;

CacheTableRow evaluate_cache_table(Context& context, const std::string& name, model::Transformer& model,
                                   const std::vector<uint32_t>& text, const CacheTableOptions& options,
                                   const CacheTableProgress& progress);

/// "4+60", "dense", "recompute": a column of the table, from a result's policy, sinks and cache.
std::string column_name(const std::string& policy, int64_t sinks, int64_t cache);

/// Mean perplexity of `cell` over the tokens that `subset` scored.
double perplexity_on_subset(const StreamingResult& cell, const StreamingResult& subset);

/// Plain text for a terminal: the table, its notes, and attention on the first position by layer.
std::string format_cache_table(const std::vector<CacheTableRow>& rows);

}  // namespace ballast::eval
