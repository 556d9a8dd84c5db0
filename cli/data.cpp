// ballast data prepare | info | show
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <span>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "data/prepare.h"
#include "data/sampler.h"
#include "data/token_store.h"
#include "data/tokenizer.h"
#include "train/data_order.h"

namespace ballast {
namespace {

struct PrepareArguments {
    std::string tokenizer;
    data::PrepareOptions options;
    int threads = 0;
};

struct InfoArguments {
    std::string path, tokenizer;
    bool verify = false;
};

struct ShowArguments {
    std::string path, tokenizer, config;
    int64_t step = 1, steps = 0, batch = 8, seq_length = 2048, seed = 1234, num_sinks = 0, count = 4;
    data::FirstToken first_token = data::FirstToken::none;
    bool preshuffled = false;

    bool config_is_run() const { return std::filesystem::is_directory(config); }
    std::string file_of_run(const char* name) const { return (std::filesystem::path(config) / name).string(); }

    /// What decides the order, as a run has it: from its folder or its TOML file.
    void read_config() {
        const train::RunConfig run = train::RunConfig::load(config_is_run() ? file_of_run("config.toml") : config, {});
        steps = run.train.steps;
        batch = run.train.global_batch;
        seq_length = run.train.sequence_length;
        seed = run.train.data_seed;
        num_sinks = run.model.num_sink_tokens;
        first_token = run.data.first_token;
        preshuffled = run.data.order == data::OrderKind::preshuffled;
        if (tokenizer.empty()) tokenizer = run.data.tokenizer;
    }
};

/// The samples of one step: batch of them from first_sample on.
struct ShownStep {
    data::SampleOrder order;
    int64_t first_sample, batch;
};

/// A run says for each of its steps what it read, whatever its settings were then; else the arguments do.
ShownStep find_step(const ShowArguments& arguments, const data::TokenStore& store) {
    const std::string path = arguments.config_is_run() ? arguments.file_of_run("data_order.json") : "";
    if (path.empty() || !std::filesystem::exists(path)) {
        const int64_t samples = data::count_samples(arguments.steps, arguments.batch, arguments.seq_length),
                      first = (arguments.step - 1) * arguments.batch;
        if (arguments.preshuffled)
            return {data::preshuffled_order(store, arguments.seq_length, samples, arguments.first_token), first,
                    arguments.batch};
        return {data::order_for(store, arguments.seq_length, static_cast<uint32_t>(arguments.seed), samples,
                                arguments.first_token),
                first, arguments.batch};
    }
    const train::DataOrder run = train::DataOrder::parse(read_file(path), path);
    const train::DataStretch& stretch = run.stretch_of(arguments.step);
    if (stretch.corpus != store.fingerprint())
        throw UserError(fmt::format("step {} of {} did not read {} ({}), but a store of {}; name that one",
                                    arguments.step, arguments.config, store.path(), store.fingerprint(),
                                    stretch.corpus));
    return {stretch.order, run.first_sample(arguments.step), stretch.global_batch};
}

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

/// The tokenizer at `path`, if the store was made with it, or does not say.
data::Tokenizer open_tokenizer(const std::string& path, data::TokenStore& store) {
    auto tokenizer = data::Tokenizer::load(path);
    if (store.tokenizer_hash().empty())
        store.assume_tokenizer(tokenizer);
    else if (tokenizer.hash() != store.tokenizer_hash())
        throw UserError(fmt::format("{} was made with another tokenizer than {} (hashes {} and {})", store.path(), path,
                                    store.tokenizer_hash(), tokenizer.hash()));
    return tokenizer;
}

/// Published sets are said to have end-of-text tokens and do not all (EleutherAI/pythia #123, #175).
void print_end_of_text(const data::TokenStore& store, const data::Tokenizer& tokenizer) {
    const auto id = tokenizer.end_of_text_id();
    if (!id) return;
    constexpr int64_t kBlock = 1 << 16;
    std::vector<int32_t> block(kBlock);
    int64_t found = 0;
    for (int64_t first = 0; first < store.num_tokens(); first += kBlock) {
        const int64_t count = std::min(kBlock, store.num_tokens() - first);
        store.read(first, count, block.data());
        found += std::count(block.begin(), block.begin() + count, static_cast<int32_t>(*id));
    }
    fmt::print("end of text     id {} occurs {} times\n", *id, found);
    if (found == 0)
        log_warning(
            fmt::format("{} has no end-of-text token, so nothing tells a model where documents end", store.path()));
}

void info(const InfoArguments& arguments) {
    data::TokenStore store(arguments.path);
    const bool is_megatron = store.tokenizer_hash().empty();  // which does not say what made it
    fmt::print("tokens          {} ({})\n", store.num_tokens(), name_of(store.dtype()));
    fmt::print("documents       {}\n", store.num_documents());
    if (!arguments.tokenizer.empty()) print_end_of_text(store, open_tokenizer(arguments.tokenizer, store));
    if (is_megatron) {
        if (arguments.verify) store.verify();
        if (arguments.verify) fmt::print("verified        every token is below {}\n", store.vocab_size());
        return;
    }
    fmt::print("vocabulary      {} ids\n", store.vocab_size());
    fmt::print("tokenizer hash  {}\n", store.tokenizer_hash());
    const int64_t end_of_text = store.info().end_of_text_id;
    fmt::print("end of text     {}\n",
               end_of_text < 0 ? "not appended" : fmt::format("id {} after each document", end_of_text));
    if (const int64_t begin = store.info().begin_of_text_id; begin >= 0 && begin != end_of_text)
        fmt::print("begin of text   id {}, for data.first_token\n", begin);
    std::string_view label = "sources";
    for (std::string_view rest = store.info().sources; !rest.empty(); label = "") {
        const size_t end = std::min(rest.find('\n'), rest.size());
        fmt::print("{:<15} {}\n", label, rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (!arguments.verify) return;
    store.verify();
    fmt::print("verified        checksums match, every token is in the vocabulary\n");
}

/// A window as a model with sink tokens reads it: the sinks, then as much of the text as still fits.
std::string describe_inputs(const data::Tokenizer& tokenizer, std::span<const int32_t> window, int64_t num_sinks) {
    std::string text;
    for (int64_t i = 0; i < num_sinks; ++i) text += fmt::format("<sink {}>", i);
    for (int32_t id : window.first(window.size() - 1 - static_cast<size_t>(num_sinks)))
        text += tokenizer.token_bytes(static_cast<uint32_t>(id)).value_or("<unknown token>");
    return text;
}

void show(ShowArguments arguments) {
    data::TokenStore store(arguments.path);
    if (!arguments.config.empty()) arguments.read_config();
    if (arguments.tokenizer.empty())
        arguments.tokenizer = (std::filesystem::path(arguments.path).parent_path() / "tokenizer.json").string();
    if (arguments.steps == 0) {  // NeoX wants half a per cent to spare, which would open a second epoch
        const int64_t tokens_a_step =
            data::count_samples(1, arguments.batch, arguments.seq_length) * arguments.seq_length;
        arguments.steps = std::max<int64_t>(1, (store.num_tokens() - 1) / tokens_a_step * 200 / 202);
        if (arguments.preshuffled)
            arguments.steps = std::max<int64_t>(1, store.num_tokens() / (arguments.seq_length + 1) / arguments.batch);
    }
    const data::Tokenizer tokenizer = open_tokenizer(arguments.tokenizer, store);
    if (arguments.step > arguments.steps)
        throw UserError(fmt::format("--step {} is past the last of {} steps", arguments.step, arguments.steps));
    const ShownStep shown = find_step(arguments, store);
    if (arguments.num_sinks >= shown.order.seq_length)
        throw UserError(fmt::format("--sinks {} must be below --seq {}", arguments.num_sinks, shown.order.seq_length));
    const data::Sampler sampler(store, shown.order);
    std::vector<int32_t> window(static_cast<size_t>(shown.order.seq_length) + 1);
    for (int64_t b = 0; b < std::min(arguments.count, shown.batch); ++b) {
        const int64_t index = shown.first_sample + b;
        sampler.sample(index, window.data());
        fmt::print("=== step {}, sample {} of {} (number {} of {}, {} epochs)\n{}\n", arguments.step, b, shown.batch,
                   index, sampler.size(), shown.order.num_epochs,
                   describe_inputs(tokenizer, window, arguments.num_sinks));
    }
}

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

void add_store_info_command(CLI::App& parent) {
    auto arguments = std::make_shared<InfoArguments>();
    CLI::App* command = parent.add_subcommand("info", "Say what is in a token store");
    command->add_option("file", arguments->path, "Token store: .h5, or Megatron's and GPT-NeoX's .idx")->required();
    command->add_option("-t,--tokenizer", arguments->tokenizer, "tokenizer.json: also counts its end-of-text tokens");
    command->add_flag("--verify", arguments->verify, "Read everything and check it");
    command->footer("Example: ballast data info train.h5 --verify");
    command->callback([arguments] { info(*arguments); });
}

void add_show_command(CLI::App& parent) {
    auto arguments = std::make_shared<ShowArguments>();
    CLI::App* command = parent.add_subcommand("show", "Print the samples of one training step as text");
    const auto add_size = [command](const char* name, int64_t& value, const char* about, int64_t smallest) {
        return command->add_option(name, value, about)
            ->check(CLI::Range(smallest, int64_t{1} << 40))
            ->capture_default_str();
    };
    command->add_option("file", arguments->path, "Token store")->required();
    command->add_option("-t,--tokenizer", arguments->tokenizer, "tokenizer.json; default: the run's, or beside FILE");
    command->add_option("--config", arguments->config,
                        "Run folder or TOML file that gives steps, batch, length, seed, sinks");
    add_size(
        "--step", arguments->step,
        "The step, numbered as in training: from 1 (Pythia's batch viewer counts from 0: its step k is k + 1 here)", 1);
    add_size("--steps", arguments->steps, "Steps of the whole run, on which the order depends; 0: one epoch", 0);
    add_size("--batch", arguments->batch, "Samples a step (global batch), on which the order depends", 1);
    add_size("--seq", arguments->seq_length, "Sequence length", 1);
    command->add_option("--seed", arguments->seed, "Seed of the order")
        ->check(CLI::Range(int64_t{0}, int64_t{0xFFFFFFFF}))
        ->capture_default_str();
    command->add_flag("--preshuffled", arguments->preshuffled,
                      "The file holds samples in training order (data.order = \"preshuffled\")");
    add_size("--sinks", arguments->num_sinks, "Sink tokens before each sample", 0);
    add_size("--count", arguments->count, "Samples to print", 1);
    command->footer("Example: ballast data show train.h5 --config runs/160m --step 7");
    command->callback([arguments] { show(*arguments); });
}

}  // namespace

void add_data_command(CLI::App& app) {
    CLI::App* data = app.add_subcommand("data", "Make, inspect and show token stores");
    data->require_subcommand(1);
    add_prepare_command(*data);
    add_store_info_command(*data);
    add_show_command(*data);
    data->footer("Example: ballast data prepare -t tokenizer.json -o train.h5 books/");
}

}  // namespace ballast
