#include "cli/text_options.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/atomic_file.h"
#include "base/ending.h"
#include "cli/commands.h"
#include "data/corpus.h"
#include "data/tokenizer.h"
#include "kernels/backend.h"

namespace ballast {

Option TextOptions::add_to(Command command) {
    Option files = command.add_option(
        "--text", text,
        "text files (UTF-8), read as one stream, after the begin-of-text token of models that have one");
    command
        .add_option("--max-tokens", max_tokens,
                    "use only the first tokens of the text, or the sentences that end within them; 0: all")
        .non_negative()
        .capture_default_str();
    add_model_options(command);
    return files;
}

void TextOptions::add_model_options(Command command) {
    command.add_option("--tokenizer", tokenizer,
                       "tokenizer.json or tokenizer.model; default: the one beside the model");
    add_dtype_option(command, dtype, kComputeDtypeHelp);
    command.add_option("--gemm", gemm, "reference: our fixed-order matrix products, the same bits on every processor")
        .one_of({"auto", "reference"})
        .capture_default_str();
    add_backend_option(command, backend);
    command.add_option("--threads", threads, "0: every core").in_range(0, 4096);
}

void TextOptions::add_newline_start(Command command) {
    command
        .add_option("--newline-start", newline_start,
                    "replace so many first tokens of the text by line breaks, the begin-of-text token among them "
                    "(StreamingLLM, Table 1): is it the first tokens' meaning or their place?")
        .non_negative()
        .capture_default_str();
}

Context TextOptions::make_context() const {
    return Context(device_of_backend(backend), static_cast<int>(threads),
                   gemm == "reference" ? Gemm::reference : Gemm::automatic);
}

void TextOptions::require_output(const std::string& output, std::span<const std::string> models) const {
    if (output.empty()) return;
    std::vector<std::string> inputs = text;
    inputs.push_back(tokenizer);
    inputs.insert(inputs.end(), models.begin(), models.end());
    require_not_an_input(output, inputs);
    require_writable(output);
    let_output_be_lost();
}

std::string TextOptions::tokenizer_of(const train::ModelSource& model) const {
    const std::string& path = !tokenizer.empty() ? tokenizer : model.tokenizer_path;
    if (path.empty())
        throw UserError(fmt::format("{} has no tokenizer.json beside it; name one with --tokenizer", model.source));
    return path;
}

data::Tokenizer TextOptions::load_tokenizer(const train::ModelSource& model) const {
    const std::string path = tokenizer_of(model);
    data::Tokenizer encoding = data::Tokenizer::load(path);
    if (!model.tokenizer_hash.empty() && model.tokenizer_hash != encoding.hash())
        throw UserError(fmt::format("{} was trained with another tokenizer than {}; name its own with --tokenizer",
                                    model.source, path));
    if (encoding.vocab_size() > model.config.vocab_size)
        throw UserError(
            fmt::format("{} has {} tokens, but {} has a vocabulary of {}; name the model's own tokenizer with "
                        "--tokenizer",
                        path, encoding.vocab_size(), model.source, model.config.vocab_size));
    return encoding;
}

/// Calls `take` with one piece of the text and its tokens after another until there are max_tokens; the last piece is
/// whole.
template <class Take>
void TextOptions::for_each_piece(const data::Tokenizer& encoding, Take&& take) const {
    data::Corpus corpus(text, {.last_cut = [&](std::string_view piece) { return encoding.last_safe_cut(piece); }});
    data::Encoder encoder(encoding);
    std::vector<uint32_t> tokens;
    int64_t count = 0;
    for (data::TextPiece piece; (max_tokens == 0 || count < max_tokens) && corpus.next(piece);) {
        tokens.clear();
        try {
            encoder.encode(piece.text, tokens, {.continues = !piece.begins_document, .first_offset = piece.offset});
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: {}", piece.source, error.what()));
        }
        count += static_cast<int64_t>(tokens.size());
        take(piece, tokens);
    }
    if (count == 0) throw UserError(fmt::format("{} is empty; there is nothing to evaluate", fmt::join(text, ", ")));
}

std::optional<uint32_t> begin_of_text_of(const data::Tokenizer& encoding, const train::ModelSource& model) {
    const bool is_run = model.step >= 0;
    if (!is_run) return encoding.begin_of_text_id();
    if (model.first_token == data::FirstToken::none) return std::nullopt;
    return encoding.begin_of_text_id() ? encoding.begin_of_text_id() : encoding.end_of_text_id();  // as in its store
}

namespace {

uint32_t line_break(const data::Tokenizer& encoding) {
    const std::vector<uint32_t> ids = encoding.encode("\n");
    if (ids.size() != 1) throw UserError("--newline-start needs a tokenizer in which a line break is one token");
    return ids.front();
}

}  // namespace

std::optional<uint32_t> TextOptions::begin_of_text(const train::ModelSource& model) const {
    return begin_of_text_of(load_tokenizer(model), model);
}

std::vector<uint32_t> TextOptions::read(const train::ModelSource& model) const {
    const data::Tokenizer encoding = load_tokenizer(model);
    std::vector<uint32_t> all;
    for_each_piece(encoding, [&](const data::TextPiece&, const std::vector<uint32_t>& tokens) {
        all.insert(all.end(), tokens.begin(), tokens.end());
    });
    if (const auto begin = begin_of_text_of(encoding, model)) all.insert(all.begin(), *begin);
    if (newline_start > 0) std::fill_n(all.begin(), std::min(newline_start, std::ssize(all)), line_break(encoding));
    if (max_tokens > 0 && std::ssize(all) > max_tokens) all.resize(static_cast<size_t>(max_tokens));
    return all;
}

struct TextOptions::Surroundings {
    std::vector<uint32_t> before, after;

    int64_t size() const { return static_cast<int64_t>(before.size() + after.size()); }
    void put_around(std::vector<uint32_t>& tokens) const {
        tokens.insert(tokens.begin(), before.begin(), before.end());
        tokens.insert(tokens.end(), after.begin(), after.end());
    }
};

TextOptions::Surroundings TextOptions::template_of(const data::Tokenizer& encoding) {
    const std::string letter = "a";
    const std::vector<uint32_t> plain = encoding.encode(letter),
                                whole = encoding.encode(letter, data::InvalidUtf8::error, {.add_special = true});
    const auto at = std::search(whole.begin(), whole.end(), plain.begin(), plain.end());
    if (at == whole.end()) return {};
    return {{whole.begin(), at}, {at + static_cast<std::ptrdiff_t>(plain.size()), whole.end()}};
}

eval::SentenceSequences TextOptions::sentences_within(const Surroundings& around, const data::Tokenizer& encoding,
                                                      int64_t length, int64_t count) const {
    if (length <= around.size())
        throw UserError(
            fmt::format("sequences of {} tokens leave no room for text beside the {} that are put around it", length,
                        around.size()));
    std::string all;
    for_each_piece(encoding, [&](const data::TextPiece& piece, const std::vector<uint32_t>&) {
        all += piece.text;
        if (piece.ends_document) all += "\n\n";  // and so the sentence
    });
    data::Encoder encoder(encoding);
    const auto encode = [&](std::string_view sentence) {
        std::vector<uint32_t> out;
        encoder.encode(sentence, out);
        return out;
    };
    eval::SentenceSequences out = eval::sentence_sequences(all, encode, length - around.size(), count, max_tokens);
    for (std::vector<uint32_t>& sequence : out.sequences) around.put_around(sequence);
    return out;
}

eval::SentenceSequences TextOptions::sentences(const train::ModelSource& model, int64_t length, int64_t count) const {
    const data::Tokenizer encoding = load_tokenizer(model);
    Surroundings around;
    if (const auto begin = begin_of_text_of(encoding, model)) around.before.push_back(*begin);
    return sentences_within(around, encoding, length, count);
}

std::vector<std::vector<int32_t>> TextOptions::encoder_sequences(const train::ModelSource& model, int64_t length,
                                                                 int64_t count) const {
    const data::Tokenizer encoding = load_tokenizer(model);
    std::vector<std::vector<int32_t>> out;
    for (const auto& sequence : sentences_within(template_of(encoding), encoding, length, count).sequences)
        out.emplace_back(sequence.begin(), sequence.end());
    return out;
}

}  // namespace ballast
