// Streaming perplexity: what a model makes of a text far longer than its context, under each cache policy.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "eval/text_stream.h"
#include "infer/cache_policy.h"
#include "model/transformer.h"

namespace ballast::eval {

enum class StreamingMethod {
    masked,  // one masked pass in chunks; recompute: batches of windows
    cache,   // the literal cache, token by token
};

struct StreamingOptions {
    infer::CachePolicy policy;
    StreamingMethod method = StreamingMethod::masked;
    int64_t chunk = 512;           // positions a masked pass takes at once
    int64_t recompute_length = 0;  // L of recompute: n sinks + the last L - n tokens
    int64_t recompute_every = 1;   // score every k-th token only (each costs a whole window)
    int64_t curve_points = 64;     // points of the curve over position
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
    std::string policy;  // "dense", "window", "sink", "recompute"
    int64_t sinks = 0;   // positions kept at the start
    int64_t cache = 0;   // total positions; 0: unbounded
    std::string method;
    int64_t tokens = 0;     // tokens scored
    int64_t of_tokens = 0;  // tokens of the text that could be scored
    int64_t non_finite =
        0;            // of `tokens`, those whose loss is NaN or infinite; then loss and perplexity are not finite
    double loss = 0;  // mean -log p, natural
    double perplexity = 0;
    double seconds = 0;
    std::vector<CurvePoint> curve;
    TokenLosses losses;
};

/// "31.42", "1.2e+05", "inf", "nan": at most 8 characters.
std::string perplexity_text(double perplexity);
/// "3 of 552 losses are not finite, …"; empty when all are.
std::string non_finite_text(const StreamingResult& result);
inline constexpr const char* kNonFiniteAdvice = "look for NaN in the weights, or measure with --dtype f32";

/// Called with the number of tokens done so far; return value unused.
using StreamingProgress = std::function<void(int64_t done)>;

/// Cache sizes are checked against the model: UserError when C exceeds its positions. A dense stream longer than the
/// trained context is legitimate (its perplexity drifts); the caller may warn.
StreamingResult evaluate_streaming(Context& context, model::Transformer& model, const TextStream& text,
                                   const StreamingOptions& options, const StreamingProgress& progress);

}  // namespace ballast::eval
