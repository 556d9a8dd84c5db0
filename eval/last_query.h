// The share of attention of a long sequence's last query on the first token, layer by layer: StreamingLLM (Xiao et al.,
// ICLR 2024), Figure 12, which has 256 sequences of 4,096 tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "eval/memory.h"
#include "eval/spread.h"
#include "model/transformer.h"

namespace ballast::eval {

struct LastQueryResult {
    int64_t length = 0, sequences = 0, layers = 0, heads = 0;
    std::vector<double> weight;  // [layers, heads] on the first position, mean over sequences

    /// Mean and standard deviation over the heads of a layer.
    Spread layer_spread(int64_t layer) const {
        return spread_of({weight.data() + layer * heads, static_cast<size_t>(heads)});
    }
};

/// Results for different lengths are kept side by side.
inline bool same_subject(const LastQueryResult& a, const LastQueryResult& b) { return a.length == b.length; }

/// UserError when a sequence of `length` positions has no room for text, or the text has fewer tokens (`num_tokens`).
void check_last_query(const model::ModelConfig& config, int64_t num_tokens, int64_t length);

/// What evaluate_last_query() takes for a model that computes in `dtype`.
MeasurementMemory last_query_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                                    int64_t length);

/// Measures at most `sequences` sequences of `length` positions, the model's sink tokens included, spread evenly over
/// the text. Computes only the last query's row of each head's weights. `first_id`: as for spread_pieces(). `progress`
/// gets the number of sequences done.
LastQueryResult evaluate_last_query(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                                    int64_t length, int64_t sequences, int64_t first_id,
                                    const std::function<void(int64_t)>& progress);

}  // namespace ballast::eval
