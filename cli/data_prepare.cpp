// ballast data prepare
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <span>

#include "base/atomic_file.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/data_commands.h"
#include "cli/options.h"
#include "data/prepare.h"
#include "data/tokenizer.h"

namespace ballast {
namespace {

struct PrepareArguments {
    std::string tokenizer;
    data::PrepareOptions options;
    int threads = 0;
};

void prepare(const PrepareArguments& arguments) {
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& output : {arguments.options.output, arguments.options.validation_output})
        require_not_an_input(output, std::span(&arguments.tokenizer, 1));
    const auto tokenizer = data::Tokenizer::load(arguments.tokenizer);
    ThreadPool pool(arguments.threads);
    data::PrepareOptions options = arguments.options;
    std::unique_ptr<Progress> progress;
    options.progress = [&progress](int64_t done, int64_t total) {
        if (!progress) progress = std::make_unique<Progress>("tokenize", total, "B");
        progress->update(done);
    };
    const InterruptGuard guard;
    options.interrupted = &interrupted;
    const data::PrepareResult result = data::prepare(tokenizer, options, pool);
    if (progress) progress->finish();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("{}: {} tokens ({})\n", options.output, result.num_tokens - result.num_validation_tokens,
               name_of(data::token_dtype(tokenizer.vocab_size())));
    if (result.num_validation_tokens > 0)
        fmt::print("{}: {} tokens, held out\n", options.validation_output, result.num_validation_tokens);
    if (result.lines_without_text > 0) fmt::print("{} lines without text, skipped\n", result.lines_without_text);
    fmt::print("{} documents, {} bytes of text, {:.2f} bytes a token, {:.1f} s, {:.1f} MB/s\n", result.num_documents,
               result.text_bytes, static_cast<double>(result.text_bytes) / static_cast<double>(result.num_tokens),
               seconds, static_cast<double>(result.text_bytes) * 1e-6 / seconds);
}

}  // namespace

void add_prepare_command(CLI::App& parent) {
    auto arguments = std::make_shared<PrepareArguments>();
    data::PrepareOptions& options = arguments->options;
    CLI::App* command = parent.add_subcommand("prepare", "Tokenise text into a file to train on (HDF5)");
    add_input_options(*command, options.inputs, options.format);
    command->add_option("-t,--tokenizer", arguments->tokenizer, "tokenizer.json or tokenizer.model")->required();
    command->add_option("-o,--output", options.output, "Token store to write")->required();
    command->add_option("--validation-output", options.validation_output,
                        "Token store for the held-out end of the text");
    command->add_option("--validation-fraction", options.validation_fraction,
                        "Share of the tokens held out, e.g. 0.05");
    command->add_flag("--append-eod,!--no-append-eod", options.append_end_of_text,
                      "Put <|endoftext|>, or else <|end_of_text|> or </s>, after each document (default: yes)");
    command->add_option("--text-key", options.text_key, "Field of a JSON line that holds the text")
        ->capture_default_str();
    add_missing_text_option(*command, options.missing_text);
    add_invalid_utf8_option(*command, options.invalid_utf8);
    add_threads_option(*command, arguments->threads);
    command->footer(
        "Example: ballast data prepare -t tokenizer.json -o train.h5 --validation-output val.h5 "
        "--validation-fraction 0.05 books/");
    command->callback([arguments] { prepare(*arguments); });
}

}  // namespace ballast
