// How much attention falls on the first tokens: the metrics of "When attention sink emerges in language models" (Gu et
// al., ICLR 2025, section 3.1).
//
// With A^{l,h} the attention weights of layer l and head h on a sequence of T tokens (1-based):
//   alpha_k^{l,h} = 1/(T-k+1) * sum_{i>=k} A^{l,h}_{i,k}     mean weight on token k by the queries that can see it
//   Sink_k^eps    = share of (l, h) with alpha_k > eps, averaged over sequences
// The trivial A_11 = 1 is included, as there.
#pragma once

#include <cstdint>
#include <vector>

#include "eval/text_stream.h"
#include "model/transformer.h"

namespace ballast::eval {

struct SinkOptions {
    int64_t length = 64;      // T, sink tokens included
    int64_t sequences = 100;  // spread evenly over the text
    int64_t positions = 4;    // k = 1 … positions
    double epsilon = 0.3;
    bool maps = false;  // also the mean map of every head
};

struct SinkResult {
    int64_t length = 0, sequences = 0, positions = 0, layers = 0, heads = 0;
    double epsilon = 0;
    std::vector<double> sink_rate;  // [positions] Sink_k^eps, 0 to 1
    std::vector<double> alpha;      // [layers, heads, positions] mean over sequences
    std::vector<double> share;      // [layers, positions] mean over heads
    std::vector<double> share_std;  // [layers, positions] standard deviation over heads
    std::vector<float> maps;        // [layers, heads, length, length], empty unless asked for
};

/// A model has one sink metric.
inline bool same_subject(const SinkResult&, const SinkResult&) { return true; }

/// What evaluate_sinks() refuses: UserError when a sequence has no room for text, or the text of `num_tokens` is
/// shorter.
void check_sinks(const model::ModelConfig& config, int64_t num_tokens, const SinkOptions& options);

SinkResult evaluate_sinks(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                          const SinkOptions& options);

/// alpha_k for k = 1 … positions of one T×T map of weights (row i, column j).
std::vector<double> column_means(const float* weights, int64_t length, int64_t positions);

}  // namespace ballast::eval
