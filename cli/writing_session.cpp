#include "cli/writing_session.h"

#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/json_file.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/memory.h"
#include "kernels/backend.h"
#include "train/memory_plan.h"

namespace ballast {
namespace {

/// What ends an answer: the tokenizer's end of text, and what the model's generation_config.json names; as in
/// transformers, config.json where there is none.
std::vector<int32_t> stop_ids_of(const data::Tokenizer& tokenizer, const train::ModelSource& source) {
    std::vector<int32_t> ids;
    if (const auto end = tokenizer.end_of_text_id()) ids.push_back(static_cast<int32_t>(*end));
    if (source.step >= 0) return ids;
    const std::filesystem::path folder = source.source;
    const bool has_own = std::filesystem::exists(folder / "generation_config.json");
    const nlohmann::json file =
        read_json_file((folder / (has_own ? "generation_config.json" : "config.json")).string());
    const nlohmann::json ends = file.is_object() ? file.value("eos_token_id", nlohmann::json{}) : nlohmann::json{};
    for (const nlohmann::json& end : ends.is_array() ? ends : nlohmann::json::array({ends}))
        if (end.is_number_integer() && end >= 0 && end < source.config.vocab_size) ids.push_back(end.get<int32_t>());
    return ids;
}

}  // namespace

void Reply::show(const std::string& piece) {
    text_ += piece;
    if (streams_) std::cout << piece << std::flush;
}

bool Reply::take(const infer::SampledToken& token) {
    show(answer_.push(token.id));
    return !answer_.stopped();
}

void Reply::finish() { show(answer_.finish()); }

WritingSession::WritingSession(const GenerateOptions& options)
    : options_(options),
      context_(options.run.make_context()),
      source_(train::find_model(options.model)),
      tokenizer_(options.run.load_tokenizer(source_)),
      stop_ids_(stop_ids_of(tokenizer_, source_)) {}

std::vector<int32_t> WritingSession::begin_of_text() const {
    const auto id = begin_of_text_of(tokenizer_, source_);
    return id ? std::vector{static_cast<int32_t>(*id)} : std::vector<int32_t>{};
}

void WritingSession::encode(std::string_view text, std::vector<int32_t>& out) const {
    const std::vector<uint32_t> ids = tokenizer_.encode(text);
    out.insert(out.end(), ids.begin(), ids.end());
}

infer::Request WritingSession::request(std::vector<int32_t> prompt, uint64_t stream) const {
    infer::Request out{.prompt = std::move(prompt), .max_tokens = options_.max_tokens, .sampling = options_.sampling};
    out.sampling.stream = stream;
    out.sampling.alternatives = options_.json.empty() ? -1 : options_.alternatives;
    out.stop_ids = stop_ids_;
    return out;
}

infer::Engine& WritingSession::start(const std::vector<infer::Request>& requests, int64_t longest, int64_t batch) {
    const Dtype dtype = dtype_of_option(options_.run.dtype);
    const model::ModelConfig& config = source_.config;
    const int64_t wanted = options_.max_positions > 0 ? options_.max_positions
                           : longest > 0              ? longest
                                                      : options_.longest_of_plan(config);
    const infer::CachePlan plan = options_.plan(config, wanted > 0 ? wanted : config.max_position_embeddings);
    infer::CacheOptions cache = options_.cache(plan, config, wanted > 0 ? wanted : infer::CacheSizes::kEndless, batch);
    for (const infer::Request& request : requests)
        cache.max_prompt = std::max(cache.max_prompt, config.num_sink_tokens + std::ssize(request.prompt));
    const infer::CacheSizes sizes(config, dtype, plan, cache);
    computable_on(context_.device(), sizes.dtype);  // refused before anything is read
    for (size_t i = 0; i < requests.size(); ++i) {
        try {
            infer::required_positions(requests[i], config, sizes);
        } catch (const UserError& error) {
            if (requests.size() == 1) throw;
            throw UserError(fmt::format("{}: prompt {}: {}", options_.prompts, i + 1, error.what()));
        }
    }
    loaded_ = train::load_model(options_.model, context_, dtype, weights_of_option(options_.weights));
    const infer::MemoryList memory = infer::CachedModel::memory(context_, config, loaded_.model->dtype(),
                                                                loaded_.model->weights().matrix_dtype(), sizes);
    require_memory(memory, context_, kBesideWeights,
                   "lower --max-batch, --max-tokens, --prefill-chunk, --cache, --blocks or --cache-blocks");
    say_memory(memory, kBesideWeights);
    engine_ = std::make_unique<infer::Engine>(context_, *loaded_.model, plan, cache, tokenizer_.vocab_size());
    started_ = std::chrono::steady_clock::now();
    return *engine_;
}

std::string WritingSession::fault(int64_t text) const {
    const infer::Answer& answer = engine_->answer(text);
    if (answer.finish != infer::Finish::not_finite) return {};
    return fmt::format("the logits for token {} of the answer, at position {} of the text, are not finite; {}",
                       answer.tokens.size() + 1, engine_->position(text), infer::kNonFiniteAdvice);
}

void WritingSession::count(int64_t text) {
    const infer::Answer& answer = engine_->answer(text);
    const int64_t position = engine_->position(text), tokens = std::ssize(answer.tokens);
    Counted& before = counted_[text];
    if (position == before.position && tokens == 0) return;  // stopped before anything was read
    const bool ends_unread = tokens > 0 && answer.finish != infer::Finish::not_finite;
    const int64_t answer_read = tokens - (ends_unread ? 1 : 0) + (before.ends_unread ? 1 : 0);
    read_ += position - before.position - answer_read;
    written_ += tokens;
    before = {position, ends_unread};
}

void WritingSession::show_summary() const {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
    size_t bytes = 0, dense = 0;
    for (const auto& [text, counted] : counted_) {
        bytes += engine_->cache().sizes().cache_bytes(counted.position);
        dense += engine_->cache().sizes().dense_bytes(counted.position);
    }
    log_info(fmt::format(
        "{} tokens read and {} written in {:.2f} s, {:.1f} tokens/s written; cache {}, {:.2f} of a dense one", read_,
        written_, seconds, static_cast<double>(written_) / seconds, train::format_bytes(bytes),
        static_cast<double>(bytes) / static_cast<double>(std::max<size_t>(1, dense))));
}

}  // namespace ballast
