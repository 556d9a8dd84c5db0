// ballast data prepare
#include <fmt/format.h>

#include <chrono>
#include <span>

#include "base/atomic_file.h"
#include "base/communicator.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/data_commands.h"
#include "cli/options.h"
#include "data/joined_parts.h"
#include "data/prepare.h"
#include "data/shared_prepare.h"
#include "data/tokenizer.h"

namespace ballast {
namespace {

struct PrepareArguments {
    std::string tokenizer;
    data::PrepareOptions options;
    int threads = 0;
};

/// What it took, and what the Pile would take.
void print_rate(std::string_view who, int64_t text_bytes, double seconds) {
    constexpr double kPileBytes = 825.18 * 1024 * 1024 * 1024;  // of text; Gao et al. 2020, table 1
    constexpr double kMeasured = 5;                             // seconds; less is mostly the start
    const double rate = static_cast<double>(text_bytes) / seconds;
    const bool says_something = seconds >= kMeasured && text_bytes > 0;
    const std::string pile =
        says_something ? fmt::format(" (the Pile's 825 GiB: {})", format_duration(kPileBytes / rate)) : "";
    fmt::print("{}{} bytes of text, {:.1f} s, {:.1f} MB/s{}\n", who, text_bytes, seconds, rate * 1e-6, pile);
}

void prepare(const PrepareArguments& arguments) {
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& output : {arguments.options.output, arguments.options.validation_output})
        for (const std::string& file : data::files_to_write(output))
            require_not_an_input(file, std::span(&arguments.tokenizer, 1));
    const auto tokenizer = data::Tokenizer::load(arguments.tokenizer);
    ThreadPool pool(arguments.threads > 0 ? arguments.threads : threads_per_process(launched_on_this_machine()));
    data::PrepareOptions options = arguments.options;
    std::unique_ptr<Progress> progress;
    options.progress = [&progress](int64_t done, int64_t total) {
        if (!progress) progress = std::make_unique<Progress>("tokenize", total, "B");
        progress->update(done);
    };
    const InterruptGuard guard;
    options.interrupted = &interrupted;
    options.note = [](const std::string& text) { log_info(text); };
    const bool shared = data::JoinedParts::is_name(options.output);
    const data::PrepareResult result =
        shared ? data::prepare_shared(tokenizer, options, pool) : data::prepare(tokenizer, options, pool);
    if (progress) progress->finish();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("{}: {} tokens ({})\n", options.output, result.num_tokens - result.num_validation_tokens,
               name_of(data::token_dtype(tokenizer.vocab_size())));
    if (result.num_validation_tokens > 0)
        fmt::print("{}: {} tokens, held out\n", options.validation_output, result.num_validation_tokens);
    if (result.num_searched > 0)
        fmt::print("{} of {} documents were duplicates, left out (found with {:.1f} MiB and a bit a document)\n",
                   result.num_duplicates, result.num_searched,
                   static_cast<double>(result.duplicates_memory) / (1 << 20));
    if (result.lines_without_text > 0) fmt::print("{} lines without text, skipped\n", result.lines_without_text);
    if (shared) {
        fmt::print("{} documents\n", result.num_documents);
        print_rate("this process took ", result.text_bytes, seconds);
    } else {
        fmt::print("{} documents, {:.2f} bytes a token\n", result.num_documents,
                   static_cast<double>(result.text_bytes) / static_cast<double>(result.num_tokens));
        print_rate("", result.text_bytes, seconds);
    }
    print_groups(data::TokenStore(options.output));
}

}  // namespace

void add_prepare_command(Command parent) {
    auto arguments = std::make_shared<PrepareArguments>();
    data::PrepareOptions& options = arguments->options;
    Command command = parent.add_subcommand("prepare", "Tokenise text into files to train on");
    add_input_options(command, options.inputs, options.format);
    command.add_option("-t,--tokenizer", arguments->tokenizer, "tokenizer.json or tokenizer.model").required();
    command
        .add_option(
            "-o,--output", options.output,
            "Token store to write: .h5, .idx (GPT-NeoX's, with .bin), or .json: a store for each input file and an "
            "index, made by as many processes as are started with this command")
        .required();
    Option held_out =
        command.add_option("--validation-output", options.validation_output, "Token store for what is held out");
    command.add_option("--validation-fraction", options.validation_fraction, "Share held out, e.g. 0.05");
    command
        .add_option_function(
            "--validation-by",
            [&options](const std::string& name) {
                options.validation_by = name == "hash" ? data::ValidationBy::hash : data::ValidationBy::end;
            },
            "What is held out: the end of the text (share of its tokens), or documents by the hash of their text "
            "(share "
            "of the documents, the same ones whatever else there is)")
        .one_of({"end", "hash"})
        .default_str("end")
        .needs(held_out);
    command.add_flag("--drop-duplicates", options.drop_duplicates,
                     "Of documents with the very same text keep the first (256 MiB and a bit a document)");
    command
        .add_option("--count-by", options.group_key,
                    "Field of a JSON line, or field.field, by which documents and tokens are counted")
        .capture_default_str();
    command.add_flag("--append-eod,!--no-append-eod", options.append_end_of_text,
                     "Put <|endoftext|>, or else <|end_of_text|> or </s>, after each document (default: yes)");
    command.add_option("--text-key", options.text_key, "Field of a JSON line that holds the text")
        .capture_default_str();
    add_missing_text_option(command, options.missing_text);
    add_invalid_utf8_option(command, options.invalid_utf8);
    add_threads_option(command, arguments->threads);
    command.footer(
        "Example: ballast data prepare -t tokenizer.json -o train.h5 --validation-output val.h5 "
        "--validation-fraction 0.05 books/");
    command.callback([arguments] { prepare(*arguments); });
}

}  // namespace ballast
