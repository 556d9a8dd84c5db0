#include "eval/streaming.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>

#include "eval/recompute.h"
#include "eval/stop.h"
#include "eval/unsigned_nan.h"
#include "infer/block_list.h"
#include "infer/decoder.h"
#include "infer/masked_stream.h"

namespace ballast::eval {
namespace {

/// Losses of every position of the stream, sinks included.
std::vector<float> masked_losses(Context& context, model::Transformer& model, const TextStream& text,
                                 const infer::CachePlan& plan, const StreamingOptions& options,
                                 const StreamingProgress& progress) {
    infer::MaskedStream stream(context, model, plan, options.chunk);
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
                                const infer::CachePolicy& policy, const StreamingProgress& progress) {
    infer::Decoder decoder(context, model, policy, static_cast<int64_t>(text.tokens.size()));
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

/// What each head keeps, of any policy but recompute.
infer::CachePlan plan_of(const StreamingOptions& options, const model::ModelConfig& config) {
    if (options.plan) return *options.plan;
    return infer::CachePlan::uniform(std::get<infer::CachePolicy>(options.policy), config.num_layers, config.num_heads);
}

/// density and kv_bytes of a text of so many positions.
void add_memory(StreamingResult& result, const infer::CachePlan& plan, const model::Transformer& model,
                int64_t positions) {
    const auto layers = infer::kept_rows(plan, model.config());
    const infer::BlockShape shape(layers, 1);
    const int64_t rows = shape.rows(positions), dense = shape.layers() * shape.heads() * positions;
    result.density = static_cast<double>(rows) / static_cast<double>(dense);
    result.kv_bytes = rows * 2 * model.config().head_dim() * static_cast<int64_t>(size_of(model.dtype()));
}

/// The part of a stream's losses that belongs to targets, all of them scored.
TokenLosses all_scored(std::vector<float> losses, const TextStream& text) {
    losses.erase(losses.begin(), losses.begin() + text.num_sink_tokens);
    losses.pop_back();  // the last token has no successor
    const size_t count = losses.size();
    return {std::move(losses), std::vector<bool>(count, true)};
}

void summarise(StreamingResult& result, int64_t curve_points) {
    const auto n = static_cast<int64_t>(result.losses.values.size());
    const int64_t bucket = std::max<int64_t>(1, (n + curve_points - 1) / curve_points);
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += bucket) {
        CurvePoint point{begin, 0, 0};
        for (int64_t i = begin; i < std::min(n, begin + bucket); ++i) {
            if (!result.losses.scored[static_cast<size_t>(i)]) continue;
            const double loss = result.losses.values[static_cast<size_t>(i)];
            point.loss += loss;
            ++point.tokens;
            result.non_finite += !std::isfinite(loss);
        }
        total += point.loss;
        result.tokens += point.tokens;
        if (point.tokens > 0) {
            point.loss /= static_cast<double>(point.tokens);
            result.curve.push_back(point);
        }
    }
    result.loss = unsigned_nan(total / static_cast<double>(result.tokens));
    result.perplexity = std::exp(result.loss);
}

}  // namespace

std::string perplexity_text(double perplexity) {
    return perplexity < 1e4 ? fmt::format("{:.2f}", perplexity) : fmt::format("{:.3g}", unsigned_nan(perplexity));
}

std::string non_finite_text(const StreamingResult& result) {
    return result.non_finite == 0 ? ""
                                  : fmt::format("{} of {} losses are not finite, so neither is the perplexity",
                                                result.non_finite, result.tokens);
}

StreamingOptions mixture_options(StreamingOptions base, infer::CachePlan plan, std::string name) {
    base.policy = Mixture{plan.sinks(), plan.bounded() ? plan.capacity() + 1 : 0};
    base.plan = std::move(plan);
    base.plan_name = std::move(name);
    return base;
}

bool same_subject(const StreamingResult& a, const StreamingResult& b) {
    return a.policy == b.policy && a.plan == b.plan;
}

void check_streaming(const model::ModelConfig& config, const StreamingOptions& options) {
    const int64_t positions = config.max_position_embeddings, size = total_positions(options.policy);
    if (size > positions)
        throw UserError(
            fmt::format("a cache of {} positions is larger than the {} the model was trained on; choose at most {}",
                        size, positions, positions));
    if (std::holds_alternative<Recompute>(options.policy) && size <= config.num_sink_tokens)
        throw UserError(fmt::format("recompute over {} positions leaves no room for text beside {} sink tokens", size,
                                    config.num_sink_tokens));
    if (options.plan && options.method == StreamingMethod::cache)
        throw UserError("the literal cache keeps the same in every head; measure a plan with the masked method");
}

StreamingResult evaluate_streaming(Context& context, model::Transformer& model, const TextStream& text,
                                   const StreamingOptions& options, const StreamingProgress& progress) {
    check_streaming(model.config(), options);
    const auto start = std::chrono::steady_clock::now();
    StreamingResult result;
    result.of_tokens = text.num_targets();
    if (const auto* recompute = std::get_if<Recompute>(&options.policy)) {
        result.policy = Recompute{recompute->length, text.num_sink_tokens};
        result.method = kind_name(options.policy);
        result.losses = recompute_losses(context, model, text, recompute->length, options.recompute_every, progress);
    } else {
        const bool masked = options.method == StreamingMethod::masked;
        const infer::CachePlan plan = plan_of(options, model.config());
        result.policy = options.policy;
        result.plan = options.plan_name;
        result.method = masked ? "masked" : "cache";
        result.losses = all_scored(
            masked ? masked_losses(context, model, text, plan, options, progress)
                   : cache_losses(context, model, text, std::get<infer::CachePolicy>(options.policy), progress),
            text);
        add_memory(result, plan, model, std::ssize(text.tokens));
    }
    summarise(result, options.curve_points);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

}  // namespace ballast::eval
