// How much attention falls on the first tokens: the metrics of "When attention sink emerges in language models" (Gu et
// al., ICLR 2025, section 3.1).
//
// With A^{l,h} the attention weights of layer l and head h on a sequence of T tokens (1-based):
//   alpha_k^{l,h} = 1/(T-k+1) * sum_{i>=k} A^{l,h}_{i,k}     mean weight on token k by the queries that can see it
//   Sink_k^eps    = share of (l, h) with alpha_k > eps, averaged over sequences
// The trivial A_11 = 1 is included, as in the paper.
//
// Also measured: the logits s_{i,j} = scale q_i k_j + bias, before the softmax, as in the maps of StreamingLLM (Xiao et
// al., ICLR 2024, Figures 2, 7, 11 and 13).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "eval/memory.h"
#include "eval/text_stream.h"
#include "model/transformer.h"

namespace ballast::eval {

struct SinkOptions {
    int64_t length = 64;      // T, sink tokens included
    int64_t sequences = 100;  // spread evenly over the text
    int64_t positions = 4;    // k = 1 … positions
    double epsilon = 0.3;
    bool maps = false;      // also the mean maps of every head
    int64_t first_id = -1;  // replaces the first token of each piece; -1: pieces stay as in the text
};

struct SinkResult {
    int64_t length = 0, sequences = 0, positions = 0, layers = 0, heads = 0;
    double epsilon = 0;
    std::vector<double> sink_rate;  // [positions] Sink_k^eps, 0 to 1
    std::vector<double> alpha;      // [layers, heads, positions] mean over sequences
    std::vector<double> share;      // [layers, positions] mean over heads
    std::vector<double> share_std;  // [layers, positions] standard deviation over heads
    // Means over sequences, over queries 2 … T and over the keys they see: position 1, and positions 2 … i together.
    // Empty in files of older versions and when T = 1.
    std::vector<double> logit_first, logit_rest;  // [layers, heads]
    int64_t whole_sentences = -1;  // sequences that end with a sentence; -1: pieces were not cut at sentences
    // Mean maps [layers, heads, length, length], 0 where a query cannot see the key; empty unless requested.
    std::vector<float> maps;        // of the weights
    std::vector<float> logit_maps;  // of the logits
};

/// A model has one sink metric.
inline bool same_subject(const SinkResult&, const SinkResult&) { return true; }

/// UserError for options that evaluate_sinks() would refuse: a sequence has no room for text, or the text has fewer
/// tokens (`num_tokens`).
void check_sinks(const model::ModelConfig& config, int64_t num_tokens, const SinkOptions& options);

/// What evaluate_sinks() takes for a model that computes in `dtype`.
MeasurementMemory sinks_memory(const Context& context, const model::ModelConfig& config, Dtype dtype,
                               const SinkOptions& options);

/// Pieces of the text for such sequences, spread evenly over the text. UserError as for check_sinks().
std::vector<std::vector<uint32_t>> sink_sequences(const model::ModelConfig& config, const std::vector<uint32_t>& text,
                                                  const SinkOptions& options);

/// Measures these sequences.
SinkResult evaluate_sinks(Context& context, model::Transformer& model, const std::vector<uint32_t>& text,
                          const SinkOptions& options);

/// Measures the given sequences. Each has options.length tokens less the model's sink tokens, which are put in front.
SinkResult evaluate_sinks(Context& context, model::Transformer& model, std::span<const std::vector<uint32_t>> sequences,
                          const SinkOptions& options);

/// For one T×T map of logits, T > 1: the means over queries 2 … T of the logits at position 1 and at positions 2 … i. A
/// logit of -inf marks a key that the query does not see.
struct LogitMeans {
    double first = 0, rest = 0;
};
LogitMeans logit_means(const float* logits, int64_t length);

/// alpha_k for k = 1 … positions of one T×T map of weights (row i, column j).
std::vector<double> column_means(const float* weights, int64_t length, int64_t positions);

}  // namespace ballast::eval
