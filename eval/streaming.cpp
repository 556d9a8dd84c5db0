#include "eval/streaming.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "base/interrupt.h"
#include "infer/decoder.h"
#include "infer/masked_stream.h"
#include "model/sink_tokens.h"

namespace ballast::eval {
namespace {

using infer::CacheKind;

constexpr float kNotScored = std::numeric_limits<float>::quiet_NaN();

void check_policy(const model::ModelConfig& config, const StreamingOptions& options) {
    const int64_t positions = config.max_position_embeddings;
    const int64_t size =
        options.policy.kind == CacheKind::recompute ? options.recompute_length : options.policy.capacity();
    if (options.policy.kind != CacheKind::dense && size > positions)
        throw UserError(
            fmt::format("a cache of {} positions is larger than the {} the model was trained on; choose at most {}",
                        size, positions, positions));
    if (options.policy.kind == CacheKind::recompute && size <= config.num_sink_tokens)
        throw UserError(fmt::format("recompute over {} positions leaves no room for text beside {} sink tokens", size,
                                    config.num_sink_tokens));
}

void stop_if_interrupted() {
    if (interrupted()) throw RunError("interrupted before the end; nothing was written");
}

/// Losses of every position of the stream, sinks included.
std::vector<float> masked_losses(Context& context, model::Transformer& model, const TextStream& text,
                                 const StreamingOptions& options, const StreamingProgress& progress) {
    infer::MaskedStream stream(context, model, options.policy, options.chunk);
    std::vector<float> losses;
    losses.reserve(text.tokens.size());
    const std::span tokens(text.tokens);
    std::vector<int32_t> targets;
    for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(options.chunk)) {
        stop_if_interrupted();
        const size_t count = std::min(static_cast<size_t>(options.chunk), tokens.size() - at);
        targets.clear();
        for (size_t i = at; i < at + count; ++i) targets.push_back(text.target(i));
        stream.feed(tokens.subspan(at, count), targets, losses);
        progress(stream.position());
    }
    return losses;
}

std::vector<float> cache_losses(Context& context, model::Transformer& model, const TextStream& text,
                                const StreamingOptions& options, const StreamingProgress& progress) {
    infer::Decoder decoder(context, model, options.policy, static_cast<int64_t>(text.tokens.size()));
    std::vector<float> losses;
    losses.reserve(text.tokens.size());
    for (size_t i = 0; i < text.tokens.size(); ++i) {
        stop_if_interrupted();
        decoder.feed({&text.tokens[i], 1});
        const int32_t target = text.target(i);
        losses.push_back(target < 0 ? 0.0f : static_cast<float>(decoder.loss(target)));
        progress(static_cast<int64_t>(i) + 1);
    }
    return losses;
}

/// For every scored token: the sinks and the last L - n tokens before it, run afresh. While the text still fits in L
/// the windows all start at its beginning, so one pass serves them together.
class Recompute {
  public:
    Recompute(Context& context, model::Transformer& model, const TextStream& text, const StreamingOptions& options)
        : context_(context),
          text_(text),
          length_(std::min(options.recompute_length, static_cast<int64_t>(text.tokens.size()))),
          every_(options.recompute_every),
          pass_(context, model, model::PassKind::forward, kWindows, length_),
          losses_(text.tokens.size(), kNotScored) {}

    std::vector<float> run(const StreamingProgress& progress) {
        first_window();
        std::vector<int64_t> ends;  // stream positions whose successor is scored
        const auto last = static_cast<int64_t>(text_.tokens.size()) - 1, n = text_.num_sink_tokens;
        const int64_t first =
            n + (length_ - n + every_ - 1) / every_ * every_;  // text positions that are multiples of every_
        for (int64_t end = first; end < last; end += every_) {
            ends.push_back(end);
            if (static_cast<int64_t>(ends.size()) < kWindows && end + every_ < last) continue;
            stop_if_interrupted();
            windows(ends);
            progress(end + 1);
            ends.clear();
        }
        return std::move(losses_);
    }

  private:
    static constexpr int64_t kWindows = 16;

    void first_window() {
        std::vector<int32_t> ids(static_cast<size_t>(kWindows * length_), text_.tokens.front());
        std::vector<int32_t> targets(ids.size(), model::kNoTarget);
        std::copy_n(text_.tokens.begin(), length_, ids.begin());
        for (int64_t i = text_.num_sink_tokens; i < length_; ++i)
            if ((i - text_.num_sink_tokens) % every_ == 0)
                targets[static_cast<size_t>(i)] = text_.target(static_cast<size_t>(i));
        const std::vector<float> out = losses_of(ids, targets);
        for (size_t i = 0; i < static_cast<size_t>(length_); ++i)
            if (targets[i] >= 0) losses_[i] = out[i];
    }

    void windows(const std::vector<int64_t>& ends) {
        const int64_t n = text_.num_sink_tokens;
        std::vector<int32_t> ids(static_cast<size_t>(kWindows * length_), text_.tokens.front());
        std::vector<int32_t> targets(ids.size(), model::kNoTarget);
        for (size_t w = 0; w < ends.size(); ++w) {
            const auto row = ids.begin() + static_cast<int64_t>(w) * length_;
            std::copy_n(text_.tokens.begin(), n, row);
            std::copy_n(text_.tokens.begin() + ends[w] + 1 - (length_ - n), length_ - n, row + n);
            targets[(w + 1) * static_cast<size_t>(length_) - 1] = text_.target(static_cast<size_t>(ends[w]));
        }
        const std::vector<float> out = losses_of(ids, targets);
        for (size_t w = 0; w < ends.size(); ++w)
            losses_[static_cast<size_t>(ends[w])] = out[(w + 1) * static_cast<size_t>(length_) - 1];
    }

    std::vector<float> losses_of(const std::vector<int32_t>& ids, const std::vector<int32_t>& targets) {
        pass_.set_tokens(ids, targets);
        pass_.forward();
        return context_.read_floats(pass_.losses());
    }

    Context& context_;
    const TextStream& text_;
    int64_t length_, every_;
    model::Pass pass_;
    std::vector<float> losses_;
};

void summarise(StreamingResult& result, int64_t curve_points) {
    const auto n = static_cast<int64_t>(result.losses.size());
    const int64_t bucket = std::max<int64_t>(1, (n + curve_points - 1) / curve_points);
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += bucket) {
        CurvePoint point{begin, 0, 0};
        for (int64_t i = begin; i < std::min(n, begin + bucket); ++i) {
            const double loss = result.losses[static_cast<size_t>(i)];
            if (std::isnan(loss) && result.policy == "recompute") continue;
            point.loss += loss;
            ++point.tokens;
        }
        total += point.loss;
        result.tokens += point.tokens;
        if (point.tokens > 0) {
            point.loss /= static_cast<double>(point.tokens);
            result.curve.push_back(point);
        }
    }
    result.loss = total / static_cast<double>(result.tokens);
    result.perplexity = std::exp(result.loss);
}

constexpr std::string_view policy_name(CacheKind kind) {
    switch (kind) {
        case CacheKind::dense: return "dense";
        case CacheKind::window: return "window";
        case CacheKind::sink: return "sink";
        case CacheKind::recompute: return "recompute";
    }
    return "?";
}

}  // namespace

StreamingResult evaluate_streaming(Context& context, model::Transformer& model, const TextStream& text,
                                   const StreamingOptions& options, const StreamingProgress& progress) {
    check_policy(model.config(), options);
    const auto start = std::chrono::steady_clock::now();
    const bool recompute = options.policy.kind == CacheKind::recompute;

    StreamingResult result;
    result.policy = policy_name(options.policy.kind);
    result.sinks = recompute ? text.num_sink_tokens : options.policy.num_sink_positions;
    result.cache = recompute ? options.recompute_length : options.policy.capacity();
    result.method = recompute ? "recompute" : options.method == StreamingMethod::masked ? "masked" : "cache";
    result.of_tokens = text.num_targets();

    std::vector<float> losses = recompute ? Recompute(context, model, text, options).run(progress)
                                : options.method == StreamingMethod::masked
                                    ? masked_losses(context, model, text, options, progress)
                                    : cache_losses(context, model, text, options, progress);
    losses.erase(losses.begin(), losses.begin() + text.num_sink_tokens);
    losses.pop_back();  // the last token has no successor
    result.losses = std::move(losses);
    summarise(result, options.curve_points);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

}  // namespace ballast::eval
