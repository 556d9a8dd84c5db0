// ballast tokenizer train | encode | decode
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/tokenizer_lines.h"
#include "data/bpe_trainer.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"

namespace ballast {
namespace {

struct TrainArguments {
    std::vector<std::string> inputs;
    std::string output = "tokenizer.json";
    std::string text_key = "text";
    data::TextFormat format = data::TextFormat::unknown;
    data::MissingText missing_text = data::MissingText::error;
    data::BpeTrainerOptions trainer;
    int threads = 0;
};

struct CodingArguments {
    std::string tokenizer;
    std::string input = "-";
    data::InvalidUtf8 invalid_utf8 = data::InvalidUtf8::error;
    bool lines = false;    // JSON lines
    bool special = false;  // encode: add special tokens; decode: skip them
};

void train(const TrainArguments& arguments) {
    constexpr size_t kPieceBytes = size_t{1} << 20;
    require_writable(arguments.output);
    data::BpeTrainer trainer(arguments.trainer);
    data::Corpus corpus(arguments.inputs, {.text_key = arguments.text_key,
                                           .invalid_utf8 = arguments.trainer.invalid_utf8,
                                           .missing_text = arguments.missing_text,
                                           .format = arguments.format,
                                           .piece_bytes = kPieceBytes,
                                           .last_cut = &data::last_word_cut});
    require_not_an_input(arguments.output, corpus.files());
    ThreadPool pool(arguments.threads);
    const size_t batch_bytes = 4 * kPieceBytes * static_cast<size_t>(pool.num_threads());
    Progress progress("count words", corpus.total_file_bytes(), "B");
    bool empty = true;
    for (auto batch = corpus.next_batch(batch_bytes); !batch.empty(); batch = corpus.next_batch(batch_bytes)) {
        trainer.add_texts(batch, pool);
        for (const data::TextPiece& piece : batch) empty = empty && piece.text.empty();
        progress.update(corpus.file_bytes_read());
    }
    if (empty) throw UserError("the input holds no text; nothing was written");
    progress.finish();
    if (corpus.lines_without_text() > 0) fmt::print("{} lines without text, skipped\n", corpus.lines_without_text());
    const data::Tokenizer tokenizer(trainer.train());
    tokenizer.save(arguments.output);
    fmt::print("{}: {} tokens, hash {}\n", arguments.output, tokenizer.vocab_size(), tokenizer.hash());
    if (tokenizer.vocab_size() < arguments.trainer.vocab_size)
        fmt::print("(fewer than the {} asked for: the text has no more pairs to merge)\n",
                   arguments.trainer.vocab_size);
}

std::string read_input(const std::string& path) {
    if (path != "-") return read_file(path);
    return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

void write_text(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) throw_errno("write", "standard output");
}

void write_output(std::string_view text) {
    write_text(text);
    if (std::fflush(stdout) != 0) throw_errno("write", "standard output");
}

void encode(const CodingArguments& arguments) {
    const auto tokenizer = data::Tokenizer::load(arguments.tokenizer);
    if (arguments.lines) {
        encode_lines(tokenizer, arguments.input, arguments.invalid_utf8, write_text);
        return write_output("");
    }
    const std::vector<uint32_t> ids =
        tokenizer.encode(read_input(arguments.input), arguments.invalid_utf8, {.add_special = arguments.special});
    write_output(fmt::format("{}\n", fmt::join(ids, " ")));
}

void decode(const CodingArguments& arguments) {
    const auto tokenizer = data::Tokenizer::load(arguments.tokenizer);
    if (arguments.lines) {
        decode_lines(tokenizer, arguments.input, write_text);
        return write_output("");
    }
    const std::string text = read_input(arguments.input);
    std::vector<uint32_t> ids;
    constexpr const char* kSpace = " \t\r\n";
    for (size_t at = text.find_first_not_of(kSpace); at != std::string::npos; at = text.find_first_not_of(kSpace, at)) {
        const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
        uint32_t id = 0;
        const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
        if (error != std::errc{} || stop != text.data() + end)
            throw UserError(fmt::format("\"{}\" at byte {} is no token id; give numbers separated by white space",
                                        text.substr(at, std::min<size_t>(end - at, 40)), at));
        ids.push_back(id);
        at = end;
    }
    write_output(tokenizer.decode(ids, arguments.special));
}

void add_tokenizer_train_command(Command parent) {
    auto arguments = std::make_shared<TrainArguments>();
    Command command = parent.add_subcommand("train", "Learn a byte-level BPE vocabulary from text");
    add_input_options(command, arguments->inputs, arguments->format);
    command.add_option("-o,--output", arguments->output, "tokenizer.json to write").capture_default_str();
    command.add_option("--vocab-size", arguments->trainer.vocab_size, "Tokens, special ones and bytes included")
        .required();
    command
        .add_option("--special-token", arguments->trainer.special_tokens,
                    "A special token, ids from 0; repeat as needed")
        .one_value_each()
        .capture_default_str();
    command.add_option("--min-frequency", arguments->trainer.min_frequency, "Do not merge pairs rarer than this")
        .capture_default_str();
    command.add_option("--text-key", arguments->text_key, "Field of a JSON line that holds the text")
        .capture_default_str();
    add_missing_text_option(command, arguments->missing_text);
    add_invalid_utf8_option(command, arguments->trainer.invalid_utf8);
    add_threads_option(command, arguments->threads);
    command.footer("Example: ballast tokenizer train -o tokenizer.json --vocab-size 1024 books/");
    command.callback([arguments] { train(*arguments); });
}

Command add_coding_command(Command parent, const char* name, const char* about, const char* input,
                           const std::shared_ptr<CodingArguments>& arguments) {
    Command command = parent.add_subcommand(name, about);
    command.add_option("-t,--tokenizer", arguments->tokenizer, "tokenizer.json, or SentencePiece's tokenizer.model")
        .required();
    command.add_option("input", arguments->input, input).capture_default_str();
    return command;
}

}  // namespace

void add_tokenizer_command(Command app) {
    Command tokenizer = app.add_subcommand("tokenizer", "Train a tokenizer; turn text into token ids and back");
    tokenizer.require_subcommand();
    add_tokenizer_train_command(tokenizer);

    auto encoding = std::make_shared<CodingArguments>();
    Command encoder = add_coding_command(tokenizer, "encode", "Text to ids, separated by spaces",
                                         "Text file; - is standard input", encoding);
    add_invalid_utf8_option(encoder, encoding->invalid_utf8);
    Option encode_lines = encoder.add_flag(
        "--jsonl", encoding->lines, "One JSON object a line: {\"text\", \"add_special\": true or false} to {\"ids\"}");
    encoder.add_flag("--add-special", encoding->special, "With the special tokens that the file puts around a text")
        .excludes(encode_lines);
    encoder.footer("Example: echo 'Call me Ishmael.' | ballast tokenizer encode -t tokenizer.json");
    encoder.callback([encoding] { encode(*encoding); });

    auto decoding = std::make_shared<CodingArguments>();
    Command decoder = add_coding_command(tokenizer, "decode", "Ids, separated by white space, to text",
                                         "File of ids; - is standard input", decoding);
    Option decode_lines = decoder.add_flag(
        "--jsonl", decoding->lines, "One JSON object a line: {\"ids\", \"skip_special\": true or false} to {\"text\"}");
    decoder.add_flag("--skip-special", decoding->special, "Leave special tokens out").excludes(decode_lines);
    decoder.footer("Example: echo 14924 479 | ballast tokenizer decode -t tokenizer.json");
    decoder.callback([decoding] { decode(*decoding); });
    tokenizer.footer("Example: ballast tokenizer train -o tokenizer.json --vocab-size 1024 books/");
}

}  // namespace ballast
