// ballast generate
#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/json_file.h"
#include "base/log.h"
#include "cli/chat.h"
#include "cli/commands.h"
#include "cli/writing_session.h"
#include "data/corpus.h"
#include "data/json_line.h"
#include "data/utf8.h"
#include "infer/answer_file.h"

namespace ballast {
namespace {

void stop_if_interrupted() {
    if (interrupted()) throw RunError("interrupted before the end of the answer; no file was written");
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

/// A prompt, or a file of them as one batch. A batch's answers are kept when it is stopped, and now and then before.
class PromptWriter {
  public:
    PromptWriter(const GenerateOptions& options, const std::vector<std::string>& prompts)
        : options_(options), session_(options) {
        for (const std::string& prompt : prompts) {
            std::vector<int32_t> ids = session_.begin_of_text();
            session_.encode(prompt, ids);
            Text& text = texts_.emplace_back(prompt, session_.tokenizer(), options.stop, !is_batch());
            infer::Request& request = requests_.emplace_back(session_.request(std::move(ids), requests_.size()));
            request.on_token = [&text](const infer::SampledToken& token) { return text.reply.take(token); };
            text.answered.prompt_ids = request.prompt;
            if (is_batch()) text.answered.settings = settings();
        }
    }

    void run() {
        if (options_.resume) take_earlier_answers();
        engine_ = &session_.start(requests_, longest(), std::ssize(requests_));
        for (size_t i = 0; i < texts_.size(); ++i)
            if (!texts_[i].is_answered()) texts_[i].number = engine_->submit(requests_[i]);
        const InterruptGuard guard;
        for (Text& text : texts_) {
            while (!has_ended(text)) step();
            show(text);
        }
        session_.show_summary();
        const std::string faults = faults_text();
        if (!is_batch() && !faults.empty()) throw RunError(faults);
        if (!options_.json.empty()) write_file();
        if (!faults.empty()) throw RunError(faults);
    }

  private:
    struct Text {
        std::string prompt;
        Reply reply;
        infer::AnsweredPrompt answered;
        int64_t number = -1;  // in the engine, which forgets it when the answer has ended
        std::string fault;    // what ended it
        bool shown = false;

        Text(std::string said, const data::Tokenizer& tokenizer, const std::vector<std::string>& stop, bool streams)
            : prompt(std::move(said)), reply(tokenizer, stop, streams) {}
        bool is_answered() const {
            return answered.answer.finish != infer::Finish::not_yet &&
                   answered.answer.finish != infer::Finish::not_finite;
        }
    };

    bool is_batch() const { return !options_.prompts.empty(); }
    std::string settings() const {
        const int64_t step = session_.source().step;
        std::string repaired;  // a path may hold any bytes, JSON only text
        return fmt::format("{}{}", step < 0 ? "" : fmt::format("step {}: ", step),
                           data::checked_utf8(options_.settings, data::InvalidUtf8::replace, repaired));
    }
    bool has_ended(const Text& text) const {
        return text.number < 0 || engine_->answer(text.number).finish != infer::Finish::not_yet;
    }
    int64_t longest() const {
        int64_t prompt = 0;
        for (const infer::Request& request : requests_) prompt = std::max(prompt, std::ssize(request.prompt));
        return infer::positions_with_answer(session_.source().config.num_sink_tokens + prompt, options_.max_tokens);
    }

    /// The answers that an earlier run of the same command has left in the file of --json.
    void take_earlier_answers() {
        if (!std::filesystem::exists(options_.json)) return;
        std::vector<infer::AnsweredPrompt> earlier = infer::read_answers(options_.json);
        for (size_t i = 0; i < texts_.size(); ++i) {
            if (earlier.size() != texts_.size() || earlier[i].prompt_ids != requests_[i].prompt)
                throw UserError(fmt::format(
                    "{} has answers to other prompts than {}; --resume goes on with the same prompts, or choose "
                    "another file",
                    options_.json, options_.prompts));
            if (!earlier[i].settings.empty() && earlier[i].settings != settings())
                throw UserError(
                    fmt::format("{} has answers made with \"{}\", and now it is \"{}\"; --resume goes on with "
                                "the same settings, or choose another file",
                                options_.json, earlier[i].settings, settings()));
            texts_[i].answered = std::move(earlier[i]);
            if (!texts_[i].is_answered()) texts_[i].answered.settings = settings();
        }
    }

    void step() {
        if (!is_batch()) stop_if_interrupted();
        if (interrupted()) stop_batch();
        engine_->step();
        if (is_batch() && !options_.json.empty()) save_now_and_then();
    }

    void save_now_and_then() {
        const auto now = std::chrono::steady_clock::now();
        if (now - saved_ < kBetweenSaves) return;
        saved_ = now;
        if (count_answers() == 0) return;
        try {
            write_file();
        } catch (const UserError& error) {
            log_warning(fmt::format("{}; the answers so far are written when that is over", error.what()));
        }
    }

    /// Takes over what the engine has of a text.
    void collect(Text& text) {
        if (text.number < 0) return;
        const bool ended = has_ended(text);
        if (ended) {
            text.reply.finish();
            text.fault = session_.fault(text.number);
            session_.count(text.number);
        }
        text.answered.text = text.reply.text();
        text.answered.answer = ended ? engine_->take(text.number) : engine_->answer(text.number);
        if (ended) text.number = -1;
    }

    void show(Text& text) {
        collect(text);
        if (std::exchange(text.shown, true)) return;
        if (is_batch()) {
            nlohmann::ordered_json line{{"prompt", text.prompt}, {"text", text.answered.text}};
            if (!text.fault.empty()) line["error"] = text.fault;
            std::cout << line.dump();
        }
        std::cout << std::endl;
    }

    int64_t count_answers() {
        for (Text& text : texts_) collect(text);
        return std::ranges::count_if(texts_, &Text::is_answered);
    }

    void write_file() {
        nlohmann::ordered_json list = nlohmann::ordered_json::array();
        for (Text& text : texts_) {
            collect(text);
            list.push_back(infer::to_json(text.answered, options_.alternatives > 0));
        }
        write_json_file(options_.json, is_batch() ? list : list[0]);
    }

    /// Ctrl-C. Answers that ended before those of earlier prompts are shown, too.
    [[noreturn]] void stop_batch() {
        for (Text& text : texts_)
            if (has_ended(text)) show(text);
        const int64_t answers = count_answers();
        const std::string done = fmt::format("interrupted: {} of {} prompts are answered", answers, texts_.size());
        if (options_.json.empty())
            throw RunError(done +
                           ", and their answers printed; with --json FILE the same command could go on with "
                           "the others (--resume)");
        if (answers == 0) throw RunError(done + "; no file was written");
        write_file();
        throw RunError(
            fmt::format("{}, and {} has their answers; the same command with --resume goes on with the others", done,
                        options_.json));
    }

    /// What is wrong with the answers; empty when nothing is.
    std::string faults_text() const {
        std::vector<size_t> bad;
        for (size_t i = 0; i < texts_.size(); ++i)
            if (!texts_[i].fault.empty()) bad.push_back(i + 1);
        if (bad.empty()) return {};
        const std::string& first = texts_[bad.front() - 1].fault;
        if (!is_batch()) return first;
        return fmt::format("{}: prompt {}: {}{}", options_.prompts, bad.front(), first,
                           bad.size() > 1 ? fmt::format(" (so it is with prompts {})", fmt::join(bad, ", ")) : "");
    }

    static constexpr std::chrono::seconds kBetweenSaves{60};

    const GenerateOptions& options_;
    WritingSession session_;
    std::deque<Text> texts_;
    std::vector<infer::Request> requests_;
    infer::Engine* engine_ = nullptr;
    std::chrono::steady_clock::time_point saved_ = std::chrono::steady_clock::now();
};

/// Reads standard input for as long as it lasts, in memory that does not depend on its length, then goes on with it.
class StreamReader {
  public:
    explicit StreamReader(const GenerateOptions& options)
        : options_(options), session_(options), reply_(session_.tokenizer(), options.stop, true) {}

    void run() {
        engine_ = &session_.start({}, 0, 1);
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
        if (const std::string fault = session_.fault(text_); !fault.empty()) throw RunError(fault);
        if (!options_.json.empty())
            write_json_file(options_.json, infer::to_json({prompt_ids_, reply_.text(), engine_->take(text_)},
                                                          options_.alternatives > 0));
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
        const InterruptGuard guard;  // a wait for input has none: Ctrl-C ends it at once
        while (engine_->answer(text_).finish == infer::Finish::not_yet) {
            engine_->step();
            stop_if_interrupted();
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
        PromptWriter(options, options.prompts.empty() ? std::vector{options.prompt} : read_prompts(options.prompts))
            .run();
}

}  // namespace

void add_generate_command(Command app) {
    auto options = std::make_shared<GenerateOptions>();
    Command command = app.add_subcommand("generate", "Go on with a text, many texts, a stream, or a conversation");
    options->add_to(command);
    command.footer(
        "Example:\n  ballast generate smollm2 \"The capital of France is\" --max-tokens 20 --temperature 0\n"
        "  cat book.txt | ballast generate smollm2 - --policy sink --cache 1024\n"
        "scripts/smollm2.sh makes the folder smollm2. "
        "Past the context that a model was trained on only the policies window, sink and infllm go.");
    command.callback([options, command] {
        options->note_settings(command);
        run(*options);
    });
}

}  // namespace ballast
