// ballast generate
#include <algorithm>
#include <deque>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/json_figure.h"
#include "base/json_file.h"
#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/writing_session.h"
#include "data/corpus.h"
#include "data/json_line.h"
#include "data/utf8.h"
#include "eval/stop.h"

namespace ballast {
namespace {

const char* name_of(infer::Finish finish) {
    switch (finish) {
        case infer::Finish::length: return "length";
        case infer::Finish::stop_id: return "stop_id";
        default: return "stop";
    }
}

nlohmann::ordered_json to_json(const std::vector<int32_t>& prompt_ids, const std::string& text,
                               const infer::Answer& answer, bool with_alternatives) {
    nlohmann::ordered_json ids = nlohmann::ordered_json::array(), log_probs = ids, likely = ids;
    for (const infer::SampledToken& token : answer.tokens) {
        ids.push_back(token.id);
        log_probs.push_back(json_figure(token.log_prob));
        likely.push_back(nlohmann::ordered_json::array());
        for (const auto& [id, log_prob] : token.alternatives)
            likely.back().push_back({{"id", id}, {"logprob", json_figure(log_prob)}});
    }
    nlohmann::ordered_json out{{"prompt_ids", prompt_ids}, {"ids", ids}, {"text", text}, {"logprobs", log_probs}};
    if (with_alternatives) out["top_logprobs"] = likely;
    out["finish"] = name_of(answer.finish);
    return out;
}

/// The prompts of a file of JSON lines. UserError with the line's number.
std::vector<std::string> read_prompts(const std::string& path) {
    std::istringstream lines(read_file(path));
    std::vector<std::string> out;
    int64_t number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
        try {
            std::string repaired;
            const std::string_view checked = data::checked_utf8(line, data::InvalidUtf8::error, repaired);
            if (data::text_of_json_line(checked, "prompt", data::InvalidUtf8::error, out.emplace_back()) !=
                data::TextField::found)
                throw UserError("the line has no \"prompt\"");
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}:{}: {}", path, number, error.what()));
        }
    }
    if (out.empty())
        throw UserError(
            fmt::format("{} holds no prompt; it is to have one JSON object {{\"prompt\": text}} a line", path));
    return out;
}

/// A prompt, or all of a file in one engine.
void generate_texts(const GenerateOptions& options, const std::vector<std::string>& prompts) {
    WritingSession session(options);
    std::deque<Reply> replies;
    std::vector<infer::Request> requests;
    int64_t longest = 0;
    for (const std::string& prompt : prompts) {
        std::vector<int32_t> ids = session.begin_of_text();
        session.encode(prompt, ids);
        longest = std::max(longest, session.source().config.num_sink_tokens + std::ssize(ids));
        Reply& reply = replies.emplace_back(session.tokenizer(), options.stop, prompts.size() == 1);
        requests.push_back(session.request(std::move(ids), requests.size()));
        requests.back().on_token = [&reply](const infer::SampledToken& token) { return reply.take(token); };
    }
    infer::Engine& engine = session.start(requests, infer::positions_with_answer(longest, options.max_tokens),
                                          std::ssize(requests));
    std::vector<int64_t> texts;
    for (const infer::Request& request : requests) texts.push_back(engine.submit(request));

    const InterruptGuard guard;
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    for (size_t i = 0; i < texts.size(); ++i) {
        while (engine.answer(texts[i]).finish == infer::Finish::not_yet) {
            eval::stop_if_interrupted();
            engine.step();
        }
        replies[i].finish();
        session.count(texts[i]);
        if (!options.prompts.empty())
            std::cout << nlohmann::ordered_json{{"prompt", prompts[i]}, {"text", replies[i].text()}}.dump();
        std::cout << std::endl;
        results.push_back(
            to_json(requests[i].prompt, replies[i].text(), engine.take(texts[i]), options.alternatives > 0));
    }
    session.show_summary();
    if (!options.json.empty()) write_json_file(options.json, options.prompts.empty() ? results[0] : results);
}

/// Reads standard input for as long as it lasts, in memory that does not depend on its length, then goes on with it.
class StreamReader {
  public:
    explicit StreamReader(const GenerateOptions& options)
        : options_(options), session_(options), reply_(session_.tokenizer(), options.stop, true) {}

    void run() {
        engine_ = &session_.start({}, 0, 1);
        const InterruptGuard guard;
        pending_ = session_.begin_of_text();
        if (!options_.json.empty()) prompt_ids_ = pending_;
        const data::Tokenizer& tokenizer = session_.tokenizer();
        data::Corpus corpus({"-"},
                            {.format = data::TextFormat::text,
                             .piece_bytes = size_t{1} << 12,
                             .last_cut = [&](std::string_view piece) { return tokenizer.last_safe_cut(piece); }});
        data::Encoder encoder(tokenizer);
        std::vector<uint32_t> ids;
        for (data::TextPiece piece; corpus.next(piece); read_whole_chunks()) {
            ids.clear();
            encoder.encode(piece.text, ids, {.continues = !piece.begins_document, .first_offset = piece.offset});
            pending_.insert(pending_.end(), ids.begin(), ids.end());
            if (!options_.json.empty()) prompt_ids_.insert(prompt_ids_.end(), ids.begin(), ids.end());
        }
        read(pending_.size(), options_.max_tokens);
        reply_.finish();
        std::cout << std::endl;
        session_.count(text_);
        session_.show_summary();
        if (!options_.json.empty())
            write_json_file(options_.json,
                            to_json(prompt_ids_, reply_.text(), engine_->take(text_), options_.alternatives > 0));
    }

  private:
    /// Chunks end where they would if everything were there at once. A token is left for the answer to begin with.
    void read_whole_chunks() {
        const infer::CacheSizes& sizes = engine_->cache().sizes();
        if (sizes.whole_prompt) {  // the prompt is all that comes; one that is too long is refused as soon as it is
                                   // known
            if (std::ssize(pending_) > sizes.options.max_positions) read(pending_.size(), 0);
            return;
        }
        const int64_t before = text_ < 0 ? session_.source().config.num_sink_tokens : engine_->position(text_);
        const int64_t end = (before + std::ssize(pending_) - 1) / options_.prefill_chunk * options_.prefill_chunk;
        if (end > before) read(static_cast<size_t>(end - before), 0);
    }
    /// Reads the first `count` pending tokens and writes an answer of at most `max_tokens`.
    void read(size_t count, int64_t max_tokens) {
        const std::span<const int32_t> tokens(pending_.data(), count);
        if (text_ < 0) {
            infer::Request request = session_.request({tokens.begin(), tokens.end()}, 0);
            request.max_tokens = max_tokens;
            request.keep_positions = infer::CacheSizes::kEndless;
            request.on_token = [this](const infer::SampledToken& token) { return reply_.take(token); };
            text_ = engine_->submit(std::move(request));
        } else {
            engine_->extend(text_, tokens, max_tokens);
        }
        pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(count));
        while (engine_->answer(text_).finish == infer::Finish::not_yet) {
            eval::stop_if_interrupted();
            engine_->step();
        }
    }

    const GenerateOptions& options_;
    WritingSession session_;
    Reply reply_;
    infer::Engine* engine_ = nullptr;
    std::vector<int32_t> pending_, prompt_ids_;
    int64_t text_ = -1;
};

void run(const GenerateOptions& options) {
    options.check();
    if (options.chat)
        chat(options);
    else if (options.is_stream())
        StreamReader(options).run();
    else
        generate_texts(options, options.prompts.empty() ? std::vector{options.prompt} : read_prompts(options.prompts));
}

}  // namespace

void add_generate_command(Command app) {
    auto options = std::make_shared<GenerateOptions>();
    Command command = app.add_subcommand("generate", "Go on with a text, many texts, a stream, or a conversation");
    options->add_to(command);
    command.footer(
        "Example:\n  ballast generate SmolLM2-135M \"The capital of France is\" --max-tokens 20 --temperature 0\n"
        "  cat book.txt | ballast generate SmolLM2-135M - --policy sink --cache 1024\n"
        "Past the context that a model was trained on only the policies window, sink and infllm go.");
    command.callback([options] { run(*options); });
}

}  // namespace ballast
