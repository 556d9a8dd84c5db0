#include "cli/chat.h"

#include <unistd.h>

#include <array>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/json_file.h"
#include "cli/writing_session.h"

namespace ballast {
namespace {

constexpr std::string_view kStart = "<|im_start|>", kEnd = "<|im_end|>";

/// The template of a Hugging Face folder: chat_template.jinja, or tokenizer_config.json's chat_template, which may be a
/// list of named ones. Empty when there is none.
std::string find_template(const std::filesystem::path& folder) {
    if (const auto file = folder / "chat_template.jinja"; std::filesystem::exists(file))
        return read_file(file.string());
    const auto file = folder / "tokenizer_config.json";
    if (!std::filesystem::exists(file)) return {};
    const nlohmann::json settings = read_json_file(file.string());
    const nlohmann::json found =
        settings.is_object() ? settings.value("chat_template", nlohmann::json{}) : nlohmann::json{};
    if (found.is_string()) return found.get<std::string>();
    for (nlohmann::json named : found.is_array() ? found : nlohmann::json::array())
        if (named.is_object() && named["name"] == "default" && named["template"].is_string()) return named["template"];
    return {};
}

/// What other templates are recognised by.
std::string_view kind_of(const std::string& chat_template) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kKinds{{{"<|start_header_id|>", "Llama 3's"},
                                                                                   {"[INST]", "Llama 2's or Mistral's"},
                                                                                   {"<start_of_turn>", "Gemma's"},
                                                                                   {"<|user|>", "Zephyr's"}}};
    for (const auto& [mark, name] : kKinds)
        if (chat_template.find(mark) != std::string::npos) return name;
    return "one that Ballast does not know";
}

/// A part of a template's string: line breaks stand there as they are, or as Jinja escapes them.
std::string with_line_breaks(std::string text) {
    for (size_t at = 0; (at = text.find("\\n", at)) != std::string::npos;) text.replace(at, 2, "\n");
    return text;
}

/// A message as ChatML writes it.
std::string message(std::string_view role, std::string_view content) {
    return fmt::format("{}{}\n{}{}\n", kStart, role, content, kEnd);
}

class Chat {
  public:
    explicit Chat(const GenerateOptions& options) : options_(options), session_(options) {
        const std::string tokenizer = options.run.tokenizer_of(session_.source());
        std::string chat_template = find_template(session_.source().source);
        if (chat_template.empty()) chat_template = find_template(std::filesystem::path(tokenizer).parent_path());
        system_ = default_system_of_chatml(chat_template, session_.source().source);
        if (!options.system.empty()) system_ = options.system;
        const auto end = session_.tokenizer().token_id(kEnd);
        if (!end || !session_.tokenizer().token_id(kStart))
            throw UserError(
                fmt::format("{} has no tokens {} and {}, which its ChatML template needs", tokenizer, kStart, kEnd));
        end_ = static_cast<int32_t>(*end);
        session_.add_stop_id(*end);
    }

    void run() {
        engine_ = &session_.start({}, 0, 1);
        const bool asks = ::isatty(STDIN_FILENO) == 1;
        std::string line = options_.prompt;
        do {
            if (line.find_first_not_of(" \t\r") != std::string::npos) answer(line);
            if (asks) std::cerr << "> " << std::flush;
        } while (std::getline(std::cin, line));
        if (asks) std::cerr << '\n';
        if (text_ >= 0) session_.show_summary();
    }

  private:
    void answer(const std::string& content) {
        Reply reply(session_.tokenizer(), options_.stop, true);
        reply_ = &reply;
        begin(content);
        {
            const InterruptGuard guard;
            while (engine_->answer(text_).finish == infer::Finish::not_yet) {
                if (interrupted()) engine_->stop(text_);
                engine_->step();
            }
        }
        reply.finish();
        std::cout << std::endl;
        session_.count(text_);
        if (const std::string fault = session_.fault(text_); !fault.empty()) throw RunError(fault);
    }

    /// Hands the message to the engine.
    void begin(const std::string& content) {
        std::string text = message("user", content);
        if (text_ < 0 && !system_.empty()) text = message("system", system_) + text;
        if (text_ >= 0) text = (ended_by_itself() ? "\n" : fmt::format("{}\n", kEnd)) + text;
        text += fmt::format("{}assistant\n", kStart);
        std::vector<int32_t> tokens;
        session_.encode(text, tokens);
        if (text_ >= 0) return engine_->extend(text_, tokens, options_.max_tokens);
        infer::Request request = session_.request(std::move(tokens), 0);
        request.keep_positions = infer::CacheSizes::kEndless;
        request.on_token = [this](const infer::SampledToken& token) { return reply_->take(token); };
        text_ = engine_->submit(std::move(request));
    }

    /// Whether the last answer has its end mark.
    bool ended_by_itself() const {
        const auto& tokens = engine_->answer(text_).tokens;
        return !tokens.empty() && tokens.back().id == end_;
    }

    const GenerateOptions& options_;
    WritingSession session_;
    std::string system_;
    int32_t end_ = 0;
    infer::Engine* engine_ = nullptr;
    Reply* reply_ = nullptr;
    int64_t text_ = -1;
};

}  // namespace

std::string default_system_of_chatml(const std::string& chat_template, const std::string& source) {
    if (chat_template.empty())
        throw UserError(
            fmt::format("{} has no chat template; choose a model that was trained for conversations", source));
    if (chat_template.find(kStart) == std::string::npos || chat_template.find(kEnd) == std::string::npos)
        throw UserError(fmt::format("{}: its chat template is {}; --chat knows ChatML ({}role …{}) only", source,
                                    kind_of(chat_template), kStart, kEnd));
    // Templates build a system message of the user's, too; the default is the one that is no expression.
    const std::string before = std::string(kStart) + "system";
    for (size_t at = chat_template.find(before); at != std::string::npos; at = chat_template.find(before, at + 1)) {
        const size_t begin = at + before.size(), end = chat_template.find(kEnd, begin);
        if (end == std::string::npos) break;
        const std::string text = with_line_breaks(chat_template.substr(begin, end - begin));
        if (text.starts_with('\n') && text.find_first_of("'\"{}") == std::string::npos) return text.substr(1);
    }
    return {};
}

void chat(const GenerateOptions& options) { Chat(options).run(); }

}  // namespace ballast
