// Streaming perplexity: what a model makes of a text far longer than its context, under each way to keep what it has
// read.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/streaming_policy.h"
#include "eval/text_stream.h"
#include "infer/policy_table.h"
#include "infer/span_plan.h"
#include "model/transformer.h"

namespace ballast::eval {

enum class StreamingMethod {
    masked,  // one masked pass in chunks
    cache,   // token by token: the literal cache, or the engine's where rows are chosen by score
};

/// A plan and what it is called in results.
struct NamedPlan {
    std::string name;
    infer::SpanPlan plan;
};

struct StreamingOptions {
    StreamingPolicy policy;
    std::optional<NamedPlan> plan = {};              // of a Mixture, whose numbers follow from it and the text's length
    std::optional<infer::PolicyChoice> choice = {};  // of a Scored, whose numbers follow from it
    StreamingMethod method = StreamingMethod::masked;  // of a cache
    int64_t chunk = 512;                               // positions a masked pass takes at once
    int64_t every = 1;                                 // score every k-th token; with recompute each costs a window
    int64_t curve_points = 64;                         // points of the curve over position
};

/// -log p (natural) of every target of a text, in order. A loss may be NaN or infinite; a target that was not scored
/// has none, which is another thing.
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
    std::string plan;       // what tells caches of one kind and size apart: the name of a mixture's plan, "h2o 32+64",
                            // "infllm 64+128+2x64"; empty: nothing has to
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
    TokenLosses losses;  // not kept in files
};

/// Two results for one cell of a table.
bool same_subject(const StreamingResult& a, const StreamingResult& b);

/// "31.42", "1.2e+05", "inf", "nan": at most 8 characters.
std::string perplexity_text(double perplexity);
/// "3 of 552 losses are not finite, …"; empty when all are.
std::string non_finite_text(const StreamingResult& result);
inline constexpr const char* kNonFiniteAdvice = "look for NaN in the weights, or measure with --dtype f32";

/// Called with the number of tokens done so far.
using StreamingProgress = std::function<void(int64_t done)>;

/// What evaluate_streaming() refuses, for those who have more to do before: UserError when a bounded cache exceeds the
/// model's positions, leaves no room beside its sink tokens, is a plan's but token by token, or chooses by score but is
/// not, or keeps places in the text and the text, of `positions` where that is known, goes past what the model was trained
/// on. A dense stream longer than that is legitimate (its perplexity drifts); the caller may warn.
void check_streaming(const model::ModelConfig& config, const StreamingOptions& options, int64_t positions = 1);

StreamingResult evaluate_streaming(Context& context, model::Transformer& model, const TextStream& text,
                                   const StreamingOptions& options, const StreamingProgress& progress);

}  // namespace ballast::eval
