// Streaming perplexity: the perplexity of a model on a text far longer than its context, under each policy for keeping
// earlier tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/memory.h"
#include "eval/streaming_policy.h"
#include "eval/text_stream.h"
#include "infer/policy_table.h"
#include "infer/span_plan.h"
#include "model/transformer.h"

namespace ballast::eval {

enum class StreamingMethod {
    masked,  // one masked pass in chunks
    cache,   // token by token: with the literal cache, or with the engine's cache when rows are chosen by score
};

/// A plan and its name in results.
struct NamedPlan {
    std::string name;
    infer::SpanPlan plan;
};

struct StreamingOptions {
    StreamingPolicy policy;
    std::optional<NamedPlan> plan = {};                // for a Mixture; gives its numbers, with the text's length
    std::optional<infer::PolicyChoice> choice = {};    // for a Scored; its numbers follow from the choice
    StreamingMethod method = StreamingMethod::masked;  // for a cache
    int64_t chunk = 512;                               // positions a masked pass takes at once
    int64_t every = 1;                                 // score every k-th token; with recompute each costs a window
    int64_t curve_points = 64;                         // points of the curve over position
};

/// -log p (natural) of every target of a text, in order. A loss may be NaN or infinite. A target that was not scored
/// has no loss; `scored` tells the two apart.
struct TokenLosses {
    std::vector<float> values;  // 0 where not scored
    std::vector<bool> scored;
};

struct CurvePoint {
    int64_t position = 0;  // first text position of the bucket
    int64_t tokens = 0;    // scored ones
    double loss = 0;       // mean over the bucket; not finite when one of its losses is not
};

struct StreamingResult {
    StreamingPolicy policy;
    std::string plan;       // distinguishes caches of one kind and size: the name of a mixture's plan, "h2o 32+64",
                            // "infllm 64+128+2x64"; empty: not needed
    std::string method;     // "masked", "cache", "recompute"
    int64_t tokens = 0;     // tokens scored
    int64_t of_tokens = 0;  // tokens of the text that could be scored
    int64_t non_finite =
        0;            // of `tokens`, those whose loss is NaN or infinite; then loss and perplexity are not finite
    double loss = 0;  // mean -log p, natural
    double perplexity = 0;
    double seconds = 0;
    double density =
        0;  // keys and values held at the end of the text, as a share of a dense cache's; 0: none, or unknown
    int64_t kv_bytes = 0;  // their bytes
    std::vector<CurvePoint> curve;
    TokenLosses losses;  // not stored in files
};

/// True for two results of the same cell of a table.
bool same_subject(const StreamingResult& a, const StreamingResult& b);

/// The name of a cell in pictures and tables: "dense", "4+60", "recompute 64", a plan's name, "h2o 32+64".
std::string label_of(const StreamingResult& result);

/// "31.42", "1.2e+05", "inf", "nan": at most 8 characters.
std::string perplexity_text(double perplexity);
/// "3 of 552 losses are not finite, …"; empty when all are finite.
std::string non_finite_text(const StreamingResult& result);

/// Called with the number of tokens done so far.
using StreamingProgress = std::function<void(int64_t done)>;

/// UserError for options that evaluate_streaming() would refuse, for callers with other work to do first. A bounded
/// cache must not exceed the model's positions, and must leave room beside the sink tokens. A plan's cache must not run
/// token by token; a cache that chooses by score must. A cache with positions in the text must not be used on a text of
/// `positions` positions (when known) beyond the trained length. A dense stream longer than that is allowed (its
/// perplexity drifts); the caller may warn.
void check_streaming(const model::ModelConfig& config, const StreamingOptions& options, int64_t positions = 1);
/// The same for windows of recompute that leave no room beside what the model's samples begin with.
void check_windows(const StreamingOptions& options, const TextStream& text);

/// What evaluate_streaming() takes over a stream of `positions` tokens, sink tokens included, for a model whose
/// matrices are stored as `weights`. The options are right by check_streaming().
MeasurementMemory streaming_memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                   const StreamingOptions& options, int64_t positions);

StreamingResult evaluate_streaming(Context& context, model::Transformer& model, const TextStream& text,
                                   const StreamingOptions& options, const StreamingProgress& progress);

}  // namespace ballast::eval
