// ballast data show
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <span>

#include "base/atomic_file.h"
#include "base/error.h"
#include "cli/data_commands.h"
#include "data/index_triplet.h"
#include "data/npy_file.h"
#include "data/sampler.h"
#include "train/data_order.h"

namespace ballast {
namespace {

struct ShowArguments {
    std::string path, tokenizer, config, index, npy;
    int64_t step = 1, steps = 0, batch = 8, seq_length = 2048, seed = 1234, num_sinks = 0, count = 4;
    data::FirstToken first_token = data::FirstToken::none;
    data::OrderKind order = data::OrderKind::neox;

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
        order = run.data.order;
        if (index.empty()) index = run.data.index;
        if (tokenizer.empty()) tokenizer = run.data.tokenizer;
    }
};

/// The samples of one step: batch of them from first_sample on.
struct ShownStep {
    data::SampleOrder order;
    int64_t first_sample, batch;
};

/// As many steps as one epoch gives.
int64_t steps_of_an_epoch(const ShowArguments& arguments, const data::TokenStore& store) {
    const int64_t tokens_a_step = data::count_samples(1, arguments.batch, arguments.seq_length) * arguments.seq_length;
    int64_t steps = (store.num_tokens() - 1) / tokens_a_step;
    if (arguments.order == data::OrderKind::neox) steps = steps * 200 / 202;  // with half a per cent to spare
    if (arguments.order == data::OrderKind::preshuffled)
        steps = store.num_tokens() / (arguments.seq_length + 1) / arguments.batch;
    if (arguments.order == data::OrderKind::npy)
        steps = data::IndexTriplet(arguments.index).num_samples() / arguments.batch;
    return std::max<int64_t>(1, steps);
}

/// A run says for each of its steps what it read, whatever its settings were then; else the arguments do.
ShownStep find_step(const ShowArguments& arguments, const data::TokenStore& store) {
    const std::string path = arguments.config_is_run() ? arguments.file_of_run("data_order.json") : "";
    if (path.empty() || !std::filesystem::exists(path)) {
        const data::OrderRequest request{
            .kind = arguments.order,
            .seq_length = arguments.seq_length,
            .seed = static_cast<uint32_t>(arguments.seed),
            .samples = data::count_samples(arguments.steps, arguments.batch, arguments.seq_length),
            .first_token = arguments.first_token,
            .index = arguments.index};
        return {data::make_sample_order(store, request), (arguments.step - 1) * arguments.batch, arguments.batch};
    }
    const train::DataOrder run = train::DataOrder::parse(read_file(path), path);
    const train::DataStretch& stretch = run.stretch_at(arguments.step);
    if (!store.has_fingerprint(stretch.corpus))
        throw UserError(fmt::format("step {} of {} did not read {} ({}), but a store of {}; name that one",
                                    arguments.step, arguments.config, store.path(), store.fingerprint(),
                                    stretch.corpus));
    ShownStep shown{stretch.order, run.first_sample(arguments.step), stretch.global_batch};
    if (!arguments.index.empty()) shown.order.index = arguments.index;  // the files may have moved
    return shown;
}

/// UserError now when --npy cannot be written, or would replace what is read.
void check_npy(const ShowArguments& arguments, const data::TokenStore& store) {
    if (arguments.npy.empty()) return;
    std::vector<std::string> inputs = store.files();
    inputs.push_back(arguments.tokenizer);
    if (!arguments.config.empty()) inputs.push_back(arguments.config);
    if (arguments.config_is_run())
        for (const char* name : {"config.toml", "data_order.json"}) inputs.push_back(arguments.file_of_run(name));
    if (!arguments.index.empty())
        for (std::string& file : data::IndexTriplet(arguments.index).files()) inputs.push_back(std::move(file));
    require_not_an_input(arguments.npy, inputs);
    require_writable(arguments.npy);
}

/// All samples of the step, [batch, seq_length + 1], in the store's type: what Pythia's batch viewer saves.
void save_ids(const std::string& path, const data::TokenStore& store, const data::Sampler& sampler,
              const ShownStep& shown) {
    const int64_t width = shown.order.seq_length + 1;
    std::vector<int32_t> ids(static_cast<size_t>(shown.batch * width));
    for (int64_t b = 0; b < shown.batch; ++b) sampler.sample(shown.first_sample + b, ids.data() + b * width);
    if (store.dtype() == Dtype::u16) {
        const std::vector<uint16_t> narrow(ids.begin(), ids.end());
        data::write_npy(path, Dtype::u16, {shown.batch, width}, narrow.data());
    } else {
        data::write_npy(path, Dtype::i32, {shown.batch, width}, ids.data());
    }
    fmt::print("{}: {} samples of {} ids\n", path, shown.batch, width);
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
    if ((arguments.order == data::OrderKind::npy) == arguments.index.empty())
        throw UserError("--order npy and --index, the name of the three files, need each other");
    check_npy(arguments, store);
    if (arguments.steps == 0) arguments.steps = steps_of_an_epoch(arguments, store);
    const data::Tokenizer tokenizer = open_tokenizer(arguments.tokenizer, store);
    if (arguments.step > arguments.steps && arguments.order != data::OrderKind::stable)
        throw UserError(fmt::format("--step {} is past the last of {} steps", arguments.step, arguments.steps));
    data::count_samples(arguments.step, arguments.batch, arguments.seq_length);  // refuses what cannot be counted
    const ShownStep shown = find_step(arguments, store);
    if (arguments.num_sinks >= shown.order.seq_length)
        throw UserError(fmt::format("--sinks {} must be below --seq {}", arguments.num_sinks, shown.order.seq_length));
    const data::Sampler sampler(store, shown.order);
    if (!arguments.npy.empty()) return save_ids(arguments.npy, store, sampler, shown);
    fmt::print("step {}, which Pythia's batch viewer counts as {}\n", arguments.step, arguments.step - 1);
    const std::string of_what = shown.order.kind == data::OrderKind::stable
                                    ? "of an order without end"
                                    : fmt::format("of {}, {} epochs", sampler.size(), shown.order.num_epochs);
    std::vector<int32_t> window(static_cast<size_t>(shown.order.seq_length) + 1);
    for (int64_t b = 0; b < std::min(arguments.count, shown.batch); ++b) {
        const int64_t index = shown.first_sample + b;
        sampler.sample(index, window.data());
        fmt::print("=== step {}, sample {} of {} (number {} {})\n{}\n", arguments.step, b, shown.batch, index, of_what,
                   describe_inputs(tokenizer, window, arguments.num_sinks));
    }
}

}  // namespace

void add_show_command(Command parent) {
    auto arguments = std::make_shared<ShowArguments>();
    Command command = parent.add_subcommand("show", "Print the samples of one training step as text");
    const auto add_size = [command](const char* name, int64_t& value, const char* about, int64_t smallest) {
        return command.add_option(name, value, about).in_range(smallest, int64_t{1} << 40).capture_default_str();
    };
    command.add_option("file", arguments->path, "Token store").required();
    command.add_option("-t,--tokenizer", arguments->tokenizer, "tokenizer.json; default: the run's, or beside FILE");
    Option config = command.add_option("--config", arguments->config,
                                       "Run folder or TOML file that gives the order: steps, batch, length, seed, "
                                       "order, sinks and first token, in place of the options for them");
    add_size(
        "--step", arguments->step,
        "The step, numbered as in training: from 1 (Pythia's batch viewer counts from 0: its step k is k + 1 here)", 1);
    add_size("--steps", arguments->steps, "Steps of the whole run, on which the order depends; 0: one epoch", 0)
        .excludes(config);
    add_size("--batch", arguments->batch, "Samples a step (global batch), on which the order depends", 1)
        .excludes(config);
    add_size("--seq", arguments->seq_length, "Sequence length", 1).excludes(config);
    command.add_option("--seed", arguments->seed, "Seed of the order")
        .in_range(int64_t{0}, int64_t{0xFFFFFFFF})
        .capture_default_str()
        .excludes(config);
    const auto set_order = [arguments](const std::string& name) {
        const auto& names = data::kOrderNames;
        arguments->order = static_cast<data::OrderKind>(std::find(names.begin(), names.end(), name) - names.begin());
    };
    command.add_option_function("--order", set_order, "As data.order of a run")
        .one_of(std::vector<std::string>(data::kOrderNames.begin(), data::kOrderNames.end()))
        .default_str("neox")
        .excludes(config);
    command.add_option("--index", arguments->index,
                       "Of --order npy: NAME of NAME_doc_idx.npy, NAME_sample_idx.npy and NAME_shuffle_idx.npy");
    command.add_option("--npy", arguments->npy,
                       "Write the ids of all the step's samples to this file instead, as Pythia's batch viewer does");
    add_size("--sinks", arguments->num_sinks, "Sink tokens before each sample", 0).excludes(config);
    add_size("--count", arguments->count, "Samples to print", 1);
    command.footer("Example: ballast data show train.h5 --config runs/160m --step 7");
    command.callback([arguments] { show(*arguments); });
}

}  // namespace ballast
