#include "infer/engine.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/error.h"

namespace ballast::infer {
namespace {

void check_ids(std::span<const int32_t> ids, const model::ModelConfig& config) {
    for (const int32_t id : ids)
        if (id < 0 || id >= config.vocab_size)
            throw UserError(fmt::format("the model has no token {}; its ids are 0 to {}", id, config.vocab_size - 1));
}

constexpr const char* kSinkAdvice = "choose the policy sink, which reads texts of any length";

/// UserError when the `read` positions that `what` names, or these and an answer of `answer` tokens, are more than
/// `most`; it says how long either may be.
void check_room(const std::string& what, int64_t read, int64_t answer, int64_t most, const std::string& advice) {
    if (read > most)
        throw UserError(
            fmt::format("{}, the cache is for texts of {}; shorten it to {}, or {}", what, most, most, advice));
    if (positions_with_answer(read, answer) <= most) return;
    const int64_t longest_answer = most - read + 1, longest_read = most - answer + 1;
    const std::string shorter = longest_read > 0 ? fmt::format(", shorten it to {}", longest_read) : "";
    throw UserError(
        fmt::format("{} and the answer up to {}, the cache is for texts of {}; ask for at most {} "
                    "(max_tokens){}, or {}",
                    what, answer, most, longest_answer, shorter, advice));
}

}  // namespace

int64_t required_positions(const Request& request, const model::ModelConfig& config, const CacheSizes& sizes) {
    check_ids(request.prompt, config);
    check_ids(request.stop_ids, config);
    request.sampling.validate();
    const int64_t prompt = config.num_sink_tokens + std::ssize(request.prompt), most = sizes.options.max_positions;
    if (prompt == 0) throw UserError("the prompt has no token; give at least one");
    if (request.max_tokens < 0) throw UserError(fmt::format("{} tokens cannot be written", request.max_tokens));
    // An endless text has blocks for the positions that were planned, which a caller may have limited.
    if (!sizes.endless || most < CacheSizes::kEndless) {
        const bool may_grow = sizes.endless || sizes.memory || most < config.max_position_embeddings;
        const std::string sinks =
            config.num_sink_tokens > 0 ? fmt::format(", with the model's sinks ({})", config.num_sink_tokens) : "";
        check_room(fmt::format("the prompt has {} tokens{}", prompt, sinks), prompt, request.max_tokens, most,
                   may_grow ? "allow more positions (max_positions)" : kSinkAdvice);
    }
    if (sizes.whole_prompt && prompt > sizes.options.max_prompt)
        throw UserError(
            fmt::format("the prompt has {} tokens, and the cache reads prompts of {}; give it room for longer ones",
                        prompt, sizes.options.max_prompt));
    const int64_t longest =
        std::min(most, std::max(positions_with_answer(prompt, request.max_tokens), request.keep_positions));
    if (const int64_t blocks = sizes.shape.blocks(longest); blocks > sizes.options.blocks)
        throw UserError(
            fmt::format("a text of {} positions needs {} blocks of the cache, which has {}; give it at least "
                        "{}, or ask for less",
                        longest, blocks, sizes.options.blocks, blocks));
    return longest;
}

Engine::Engine(Context& context, model::Transformer& model, const CachePlan& plan, const CacheOptions& options,
               int64_t num_ids)
    : context_(context), config_(model.config()), num_ids_(num_ids), cache_(context, model, plan, options) {
    if (num_ids_ == 0) num_ids_ = config_.vocab_size;
    if (config_.num_sink_tokens > 0) num_ids_ = std::min(num_ids_, config_.sink_token_id);
}

const Engine::Text& Engine::at(int64_t text) const {
    const auto found = texts_.find(text);
    require(found != texts_.end(), "a text that the engine does not have");
    return found->second;
}

int64_t Engine::submit(Request request) {
    const int64_t positions = required_positions(request, config_, cache_.sizes());
    Sampler sampler(request.sampling, num_ids_);
    sampler.add_prompt(request.prompt);
    std::vector<int32_t> unread;
    for (int64_t i = 0; i < config_.num_sink_tokens; ++i)
        unread.push_back(static_cast<int32_t>(config_.sink_token_id + i));
    unread.insert(unread.end(), request.prompt.begin(), request.prompt.end());
    const int64_t number = next_++;
    const auto [place, added] =
        texts_.emplace(number, Text{std::move(request), std::move(sampler), std::move(unread), positions, {}, {}});
    waiting_.push_back(&place->second);
    return number;
}

void Engine::extend(int64_t number, std::span<const int32_t> tokens, int64_t max_tokens) {
    Text& text = at(number);
    require(text.answer.finish != Finish::not_yet && text.request.keep_positions > 0,
            "a text that is not finished, or was not kept");
    check_ids(tokens, config_);
    const int64_t read = text.cached.position + std::ssize(text.unread) + std::ssize(tokens);
    if (read == text.cached.position) throw UserError("there is no token to go on with; give at least one");
    check_room(fmt::format("the text has {} positions with {} tokens more", read, tokens.size()), read, max_tokens,
               text.positions, fmt::format("begin a new one, or {}", kSinkAdvice));
    text.sampler.add_prompt(tokens);
    text.sampler.begin_answer();
    text.unread.insert(text.unread.end(), tokens.begin(), tokens.end());
    text.request.max_tokens = max_tokens;
    text.answer = {};
    waiting_.push_back(&text);
}

void Engine::admit() {
    while (!waiting_.empty() && std::ssize(reading_) + std::ssize(writing_) < cache_.sizes().options.max_batch) {
        Text& text = *waiting_.front();
        const bool is_open = text.cached.serial > 0;
        if (!is_open && cache_.sizes().shape.blocks(text.positions) > cache_.free_blocks()) return;
        if (!is_open) text.cached = cache_.open(text.positions);
        reading_.push_back(&text);
        waiting_.pop_front();
    }
}

bool Engine::step() {
    admit();
    if (reading_.empty() && writing_.empty()) {
        require(waiting_.empty(), "texts that wait for blocks which nobody gives back");
        return false;
    }
    if (!reading_.empty()) read_chunk(*reading_.front());
    if (!writing_.empty()) write_tokens();
    return true;
}

void Engine::read_chunk(Text& text) {
    const auto count = static_cast<size_t>(cache_.next_chunk(text.cached, std::ssize(text.unread)));
    cache_.prefill(text.cached, std::span(text.unread).first(count));
    text.unread.erase(text.unread.begin(), text.unread.begin() + static_cast<std::ptrdiff_t>(count));
    if (!text.unread.empty()) return;
    cache_.end_prompt(text.cached);
    if (text.request.max_tokens == 0)
        finish(text, Finish::length);
    else
        draw(text, context_.read_floats(cache_.logits(1)));
    reading_.erase(reading_.begin());
    if (text.answer.finish == Finish::not_yet) writing_.push_back(&text);
}

void Engine::write_tokens() {
    std::vector<CachedText*> texts;
    std::vector<int32_t> tokens;
    for (Text* text : writing_) {
        texts.push_back(&text->cached);
        tokens.push_back(text->unread.front());
        text->unread.clear();
    }
    cache_.decode(texts, tokens);
    const std::vector<float> logits = context_.read_floats(cache_.logits(std::ssize(texts)));
    const auto V = static_cast<size_t>(config_.vocab_size);
    for (size_t b = 0; b < writing_.size(); ++b) draw(*writing_[b], std::span(logits).subspan(b * V, V));
    leave(writing_);
    ++decode_steps_;
    decoded_tokens_ += std::ssize(texts);
}

void Engine::draw(Text& text, std::span<const float> logits) {
    if (!all_finite(logits)) return finish(text, Finish::not_finite);
    text.answer.tokens.push_back(text.sampler.next(logits));
    const SampledToken& token = text.answer.tokens.back();
    text.unread = {token.id};
    const std::vector<int32_t>& stop_ids = text.request.stop_ids;
    const bool goes_on = !text.request.on_token || text.request.on_token(token);
    if (std::find(stop_ids.begin(), stop_ids.end(), token.id) != stop_ids.end())
        finish(text, Finish::stop_id);
    else if (!goes_on)
        finish(text, Finish::stopped);
    else if (std::ssize(text.answer.tokens) >= text.request.max_tokens ||
             text.cached.position + 1 >= CacheSizes::kEndless)
        finish(text, Finish::length);
}

void Engine::finish(Text& text, Finish why) {
    text.answer.finish = why;
    if (text.request.keep_positions == 0) text.cached.blocks = {};
}

void Engine::leave(std::vector<Text*>& texts) {
    std::erase_if(texts, [](const Text* text) { return text->answer.finish != Finish::not_yet; });
}

void Engine::stop(int64_t number) {
    Text& text = at(number);
    if (text.answer.finish != Finish::not_yet) return;
    cache_.end_prompt(text.cached);
    finish(text, Finish::stopped);
    std::erase(waiting_, &text);
    leave(reading_);
    leave(writing_);
}

Answer Engine::take(int64_t number) {
    Text& text = at(number);
    require(text.answer.finish != Finish::not_yet, "the answer of a text that is not finished");
    Answer out = std::move(text.answer);
    texts_.erase(number);
    return out;
}

}  // namespace ballast::infer
