#include "eval/streaming.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>

#include "eval/recompute.h"
#include "eval/stop.h"
#include "eval/unsigned_nan.h"
#include "infer/cached_model.h"
#include "infer/decoder.h"
#include "infer/masked_stream.h"
#include "infer/sampling.h"

namespace ballast::eval {
namespace {

/// There is memory for a whole chunk, so it is no longer than the stream.
int64_t chunk_within(int64_t chunk, int64_t positions) { return std::min(chunk, positions); }

/// Losses of every position of the stream, sinks included.
std::vector<float> masked_losses(Context& context, model::Transformer& model, const TextStream& text,
                                 const infer::CachePlan& plan, int64_t chunk, const StreamingProgress& progress) {
    chunk = chunk_within(chunk, std::ssize(text.tokens));
    infer::MaskedStream stream(context, model, plan, chunk);
    std::vector<float> losses;
    losses.reserve(text.tokens.size());
    const std::span tokens(text.tokens);
    std::vector<int32_t> targets;
    for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(chunk)) {
        stop_if_interrupted();
        const size_t count = std::min(static_cast<size_t>(chunk), tokens.size() - at);
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

/// The tokens that a cache which chooses by score is fed at once.
int64_t chunk_of(const infer::CachePlan& plan) {
    return plan.cache(0, 0).chosen_blocks ? ops::kCacheBlockRows : int64_t{1};
}

infer::CacheOptions options_of(const infer::CachePlan& plan, int64_t positions) {
    return {.prefill_chunk = chunk_of(plan), .max_positions = positions, .max_prompt = 1};
}

/// With a cache that drops after every forward step (H2O), which is fed token by token from the first one on. One row
/// of logits comes from the product by row, which reads the head's weight once and widens nothing in memory.
std::vector<float> losses_by_token(Context& context, const TextStream& text, infer::CachedModel& cached,
                                   infer::CachedText& read, const StreamingProgress& progress) {
    infer::CachedText* const texts = &read;
    std::vector<float> losses;
    losses.reserve(text.tokens.size());
    for (size_t i = 0; i < text.tokens.size(); ++i) {
        stop_if_interrupted();
        cached.decode({&texts, 1}, {&text.tokens[i], 1});
        const int32_t target = text.target(i);
        const auto log_prob = [&] {
            return infer::log_probs(context.read_floats(cached.logits(1)), {&target, 1}).front();
        };
        losses.push_back(target < 0 ? 0.0f : static_cast<float>(-log_prob()));
        progress(static_cast<int64_t>(i) + 1);
    }
    return losses;
}

/// With a cache that keeps everything (InfLLM), in the engine's chunks.
std::vector<float> losses_by_chunk(Context& context, model::Transformer& model, const TextStream& text,
                                   infer::CachedModel& cached, infer::CachedText& read,
                                   const StreamingProgress& progress) {
    constexpr int64_t kChunk = ops::kCacheBlockRows;
    const DeviceBuffer memory = context.allocate(kChunk * (sizeof(double) + sizeof(int32_t)));
    std::vector<float> losses;
    losses.reserve(text.tokens.size());
    const std::span tokens(text.tokens);
    for (size_t at = 0; at < tokens.size();) {
        stop_if_interrupted();
        const int64_t count = cached.next_chunk(read, std::ssize(tokens.subspan(at)));
        const auto step = tokens.subspan(at, static_cast<size_t>(count));
        cached.prefill(read, step);
        std::vector<int32_t> targets;
        for (size_t i = at; i < at + step.size(); ++i) targets.push_back(text.target(i));
        const Tensor of_tokens(memory.data(), accumulation_dtype(model.dtype()), {count});
        const Tensor wanted(static_cast<double*>(memory.data()) + kChunk, Dtype::i32, {count});
        context.copy_from_host(wanted, targets.data());
        model.head_losses(context, of_tokens, cached.final_out(), wanted);
        const std::vector<float> of_step = context.read_floats(of_tokens);
        losses.insert(losses.end(), of_step.begin(), of_step.end());
        at += step.size();
        progress(static_cast<int64_t>(at));
    }
    return losses;
}

/// With a cache that chooses by score.
std::vector<float> scored_losses(Context& context, model::Transformer& model, const TextStream& text,
                                 const infer::CachePlan& plan, const StreamingProgress& progress) {
    const auto positions = static_cast<int64_t>(text.tokens.size());
    infer::CachedModel cached(context, model, plan, options_of(plan, positions));
    infer::CachedText read = cached.open(positions);
    return plan.cache(0, 0).chosen_blocks ? losses_by_chunk(context, model, text, cached, read, progress)
                                          : losses_by_token(context, text, cached, read, progress);
}

/// The part of a stream's losses that belongs to targets; the text positions that are multiples of `every` are scored.
TokenLosses scored(std::vector<float> losses, const TextStream& text, int64_t every) {
    losses.erase(losses.begin(), losses.begin() + text.num_sink_tokens);
    losses.pop_back();  // the last token has no successor
    TokenLosses out{std::move(losses), {}};
    for (size_t i = 0; i < out.values.size(); ++i) {
        out.scored.push_back(i % static_cast<size_t>(every) == 0);
        if (!out.scored.back()) out.values[i] = 0;
    }
    return out;
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

std::string label_of(const StreamingResult& result) {
    if (!result.plan.empty()) return result.plan;
    const std::string name = name_of(result.policy);
    const auto* recompute = std::get_if<Recompute>(&result.policy);
    return recompute == nullptr ? name : fmt::format("{} {}", name, recompute->length);
}

std::string perplexity_text(double perplexity) {
    return perplexity < 1e4 ? fmt::format("{:.2f}", perplexity) : fmt::format("{:.3g}", unsigned_nan(perplexity));
}

std::string non_finite_text(const StreamingResult& result) {
    return result.non_finite == 0 ? ""
                                  : fmt::format("{} of {} losses are not finite, so neither is the perplexity",
                                                result.non_finite, result.tokens);
}

bool same_subject(const StreamingResult& a, const StreamingResult& b) {
    return a.policy == b.policy && a.plan == b.plan && (a.plan.empty() || a.density == b.density);
}

void check_streaming(const model::ModelConfig& config, const StreamingOptions& options, int64_t positions) {
    const int64_t trained = config.max_position_embeddings, size = total_positions(options.policy);
    if (size > trained)
        throw UserError(
            fmt::format("a cache of {} positions is larger than the {} the model was trained on; choose at most {}",
                        size, trained, trained));
    const bool mixed = std::holds_alternative<Mixture>(options.policy);
    require(mixed == options.plan.has_value(), "a mixture is of a plan, and nothing else is");
    if (mixed && options.method == StreamingMethod::cache)
        throw UserError("the literal cache has one policy for all heads; evaluate a plan with the method masked");
    const bool scored = std::holds_alternative<Scored>(options.policy);
    require(scored == options.choice.has_value(),
            "a cache that chooses by score is of a choice of policy, and no other");
    if (scored && options.method == StreamingMethod::masked)
        throw UserError(
            fmt::format("what the policy {} keeps is known only as the text goes on; evaluate it with the "
                        "method cache",
                        kind_name(options.policy)));
    // Both refuse a plan that does not suit the model, or the text.
    if (mixed) infer::cache_plan(options.plan->plan, config, positions);
    if (scored) {
        const infer::CachePlan plan = infer::make_plan(*options.choice, config, positions);
        infer::CacheSizes(config, Dtype::f32, plan, options_of(plan, positions));
    }
    if (std::holds_alternative<Recompute>(options.policy) && size <= config.num_sink_tokens)
        throw UserError(fmt::format("recompute over {} positions leaves no room for text beside {} sink tokens", size,
                                    config.num_sink_tokens));
}

void check_windows(const StreamingOptions& options, const TextStream& text) {
    const auto* recompute = std::get_if<Recompute>(&options.policy);
    if (recompute != nullptr && recompute->length <= text.num_leading())
        throw UserError(
            fmt::format("recompute over {} position leaves no room for text beside the token that the model's samples "
                        "begin with",
                        recompute->length));
}

namespace {

class Evaluation {
  public:
    Evaluation(Context& context, model::Transformer& model, const TextStream& text, const StreamingOptions& options,
               const StreamingProgress& progress)
        : context_(context), model_(model), text_(text), options_(options), progress_(progress) {}

    StreamingResult run() {
        result_.of_tokens = text_.num_targets();
        std::visit([&](const auto& policy) { measure(policy); }, options_.policy);
        summarise(result_, options_.curve_points);
        return std::move(result_);
    }

  private:
    int64_t positions() const { return static_cast<int64_t>(text_.tokens.size()); }

    void measure(const Recompute& recompute) {
        result_.policy = Recompute{recompute.length, text_.num_leading()};
        result_.method = kind_name(options_.policy);
        result_.losses = recompute_losses(context_, model_, text_, recompute.length, options_.every, progress_);
    }

    void measure(const infer::CachePolicy& policy) {
        const bool masked = options_.method == StreamingMethod::masked;
        result_.policy = policy;
        result_.method = masked ? "masked" : "cache";
        const auto& config = model_.config();
        const int64_t rows = policy.bounded() ? std::min(policy.capacity(), positions()) : positions();
        add_memory(rows * config.num_layers * config.key_value_heads());
        const auto plan = infer::CachePlan::uniform(policy, config.num_layers, config.num_heads);
        score(masked ? masked_losses(context_, model_, text_, plan, options_.chunk, progress_)
                     : cache_losses(context_, model_, text_, policy, progress_));
    }

    void measure(const Mixture&) {
        const infer::SpanPlan& plan = options_.plan->plan;
        const infer::CachePlan caches = infer::cache_plan(plan, model_.config(), positions());
        const int64_t kv_heads = model_.config().key_value_heads();
        int64_t total = 0, largest = 0;
        for (int64_t l = 0; l < plan.layers; ++l)
            for (int64_t g = 0; g < kv_heads; ++g) {
                const int64_t rows = infer::kept_rows(plan, l, g, kv_heads, positions());
                total += rows;
                largest = std::max(largest, rows);
            }
        result_.policy = Mixture{plan.sinks, largest};
        result_.plan = options_.plan->name;
        result_.method = "masked";
        add_memory(total);
        score(masked_losses(context_, model_, text_, caches, options_.chunk, progress_));
    }

    void measure(const Scored& scored) {
        const auto& config = model_.config();
        const infer::CachePlan plan = infer::make_plan(*options_.choice, config, positions());
        const infer::HeadCache& head = plan.cache(0, 0);
        int64_t rows = std::min(plan.capacity(), positions());
        if (head.heavy) {
            result_.policy = Scored{scored.kind, plan.capacity()};
            result_.plan = fmt::format("{} {}+{}", scored.kind, *head.heavy, head.span);
        } else {  // everything, and the last ones twice
            const ops::BlockMemory memory = infer::block_memory_of(head);
            rows = positions() + std::min(memory.ring_slots(), positions());
            result_.policy = Scored{scored.kind, memory.initial + memory.local + memory.chosen * ops::kCacheBlockRows,
                                    memory.initial};
            result_.plan = fmt::format("{} {}+{}+{}x{}", scored.kind, memory.initial, memory.local, memory.chosen,
                                       ops::kCacheBlockRows);
        }
        result_.method = "cache";
        add_memory(rows * config.num_layers * config.key_value_heads());
        score(scored_losses(context_, model_, text_, plan, progress_));
    }

    /// `rows`: of all layers and key-value heads, at the end of the text.
    void add_memory(int64_t rows) {
        const auto& config = model_.config();
        result_.kv_bytes = 2 * rows * config.head_dim() * static_cast<int64_t>(size_of(model_.dtype()));
        result_.density =
            static_cast<double>(rows) / static_cast<double>(config.num_layers * config.key_value_heads() * positions());
    }

    void score(std::vector<float> losses) { result_.losses = scored(std::move(losses), text_, options_.every); }

    Context& context_;
    model::Transformer& model_;
    const TextStream& text_;
    const StreamingOptions& options_;
    const StreamingProgress& progress_;
    StreamingResult result_;
};

}  // namespace

MeasurementMemory streaming_memory(const Context& context, const model::ModelConfig& config, Dtype dtype, Dtype weights,
                                   const StreamingOptions& options, int64_t positions) {
    const auto masked = [&](const infer::CachePlan& plan) {
        const int64_t chunk = chunk_within(options.chunk, positions);
        return infer::MaskedStream::memory(context, config, dtype, weights, plan, chunk, positions);
    };
    if (const auto* recompute = std::get_if<Recompute>(&options.policy))
        return recompute_memory(context, config, dtype, weights, positions, recompute->length, options.every);
    if (options.plan) return {masked(infer::cache_plan(options.plan->plan, config, positions)), {}};
    if (options.choice) {
        const infer::CachePlan plan = infer::make_plan(*options.choice, config, positions);
        const infer::CacheSizes sizes(config, dtype, plan, options_of(plan, positions));
        return {infer::CachedModel::memory(context, config, dtype, weights, sizes), {}};
    }
    const auto& policy = std::get<infer::CachePolicy>(options.policy);
    if (options.method == StreamingMethod::cache)
        return {infer::Decoder::memory(context, config, dtype, weights, policy, positions), {}};
    return {masked(infer::CachePlan::uniform(policy, config.num_layers, config.num_heads)), {}};
}

StreamingResult evaluate_streaming(Context& context, model::Transformer& model, const TextStream& text,
                                   const StreamingOptions& options, const StreamingProgress& progress) {
    check_streaming(model.config(), options, static_cast<int64_t>(text.tokens.size()));
    check_windows(options, text);
    const auto start = std::chrono::steady_clock::now();
    StreamingResult result = Evaluation(context, model, text, options, progress).run();
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

}  // namespace ballast::eval
