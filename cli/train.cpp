// ballast train CONFIG.toml
#include <cmath>
#include <exception>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>

#include "base/atomic_file.h"
#include "base/child_process.h"
#include "base/communicator.h"
#include "base/config_toml.h"
#include "base/ending.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/dry_run.h"
#include "cli/environment.h"
#include "data/index_triplet.h"
#include "kernels/backend.h"
#include "train/cost_model.h"
#include "train/memory_plan.h"
#include "train/outer_watch.h"
#include "train/trainer.h"

namespace ballast {
namespace {

using namespace train;  // every name of this file's subject

struct TrainOptions {
    std::string config;
    std::vector<std::string> settings;
    std::string out, backend = "auto", timeline;
    bool resume = false, overwrite = false, allow_data_change = false, show_keys = false, plan_only = false;
    DryRun dry_run;

    std::string run_folder() const {
        return out.empty() ? "runs/" + std::filesystem::path(config).stem().string() : out;
    }
    /// The command that continues the run, for a shell in the same folder.
    std::string resume_command() const {
        std::vector<std::string> words{own_program(), "train", config};
        for (const std::string& setting : settings) words.insert(words.end(), {"--set", setting});
        words.insert(words.end(), {"--out", run_folder(), "--resume"});
        if (backend != "auto") words.insert(words.end(), {"--backend", backend});
        return shell_command(words);
    }
};

/// How the work is shared out, and what that costs a rank in an update.
std::string describe(const Distribution& distribution, const RunConfig& config, const MemoryPlan& plan) {
    const Communicator& ranks = distribution.ranks();
    return fmt::format(
        "ranks        {} ({} on this machine), gradients added up in {} lanes, {} of them rank 0's ({}); {}; a rank "
        "gets "
        "{} of {} an update",
        ranks.size(), ranks.local_size(), distribution.lanes(), distribution.own_lanes().size(),
        format_bytes(plan.gradients),
        distribution.shards_optimizer() ? "moments shared out (ZeRO 1)" : "moments on every rank (ZeRO 0)",
        format_bytes(static_cast<size_t>(received_bytes(config, distribution))),
        distribution.shards_optimizer() ? "gradients and weights" : "gradients and their sums");
}

constexpr size_t kTimelineUpdates = 20;

/// How much of the communication hid beside the passes, and how much could.
std::string describe(const Timeline::Overlap& overlap, const RunConfig& config, const Distribution& distribution) {
    if (overlap.communication == 0) return "timeline     nothing was communicated";
    const Shards shards(model::ParameterTable(config.model), distribution);
    const Range last = shards.buckets().back().elements(), all{0, shards.buckets().front().elements().end};
    return fmt::format(
        "timeline     {:.2f} ms an update of communication and its sums, {:.0f} % of it beside the passes; {:.0f} % of "
        "the gradients are known before the last pass ends",
        overlap.communication * 1e3, 100 * overlap.hidden / overlap.communication,
        100 * (1 - static_cast<double>(last.size()) / static_cast<double>(all.size())));
}

/// Lines go through print_line(), which a closed or full standard output does not stop: the run is worth more.
void print_startup(const RunConfig& config, Context& context, const RunData& data, const MemoryPlan& plan,
                   const Distribution& distribution) {
    const model::ParameterTable table(config.model);
    const auto flops = model::flops_per_token(config.model, table.num_parameters(), config.train.sequence_length);
    print_line(to_table(config));
    print_line(fmt::format("parameters   {:L} ({:L} without embeddings), sink tokens: {}", table.num_parameters(),
                           table.num_parameters() - table.num_parameters(model::Role::embed_in) -
                               table.num_parameters(model::Role::embed_out),
                           config.model.num_sink_tokens == 0
                               ? "none"
                               : fmt::format("ids {} to {}", config.model.sink_token_id,
                                             config.model.sink_token_id + config.model.num_sink_tokens - 1)));
    print_line(fmt::format(
        "FLOPs/token  {:.4g} = 6 (parameters - input embedding) + 12 layers * hidden * length [PaLM]; {:.4g} with "
        "attention halved for the causal mask",
        flops.palm, flops.causal));
    print_line(fmt::format("batch        {} samples of {} positions an update, in {} passes of {}",
                           config.train.global_batch, config.train.sequence_length,
                           config.train.global_batch / config.samples_per_pass(), config.samples_per_pass()));
    const double epochs =
        static_cast<double>(config.train.steps * config.train.global_batch * config.train.sequence_length) /
        static_cast<double>(data.train.num_tokens());
    print_line(fmt::format("data         {} tokens in {} documents, {:.2f} epochs", data.train.num_tokens(),
                           data.train.num_documents(), epochs));
    std::string memory = "memory      ";
    for (const auto& [name, bytes] : plan.parts())
        if (bytes > 0) memory += fmt::format(" {} {} |", name, format_bytes(bytes));
    print_line(fmt::format("{} total {}{}", memory, format_bytes(plan.total(context.device())),
                           context.device() == Device::cuda
                               ? " on the GPU; the checkpoint snapshot and the sample order are the host's"
                               : ""));
    if (!distribution.is_trivial()) print_line(describe(distribution, config, plan));
    print_line(fmt::format("backend      {}, {} threads", name_of(context.device()), context.pool().num_threads()));
}

/// Right for a run that goes on with longer samples later, a mistake where the field was forgotten.
void warn_of_untrained_positions(const RunConfig& config) {
    if (config.train.sequence_length < config.model.max_position_embeddings)
        log_warning(
            fmt::format("train.sequence_length = {} trains fewer positions than model.max_position_embeddings = {}; "
                        "default caches and exports go by max_position_embeddings",
                        config.train.sequence_length, config.model.max_position_embeddings));
}

/// Control characters would break the line and the terminal.
std::string printable(std::string text) {
    for (char& c : text)
        if (static_cast<unsigned char>(c) < 0x20) c = ' ';
    return text;
}

/// One line a step, and the bar on a terminal.
TrainObserver make_observer(const RunConfig& config, std::unique_ptr<Progress>& bar) {
    TrainObserver observer;
    const int64_t last = config.train.steps;
    observer.started = [&bar, last](int64_t first) { bar = std::make_unique<Progress>("train", last, "steps", first); };
    observer.step = [&bar, last, every = config.train.log_every](const StepMetrics& m) {
        if (m.step % every == 0 || m.step == last || m.skipped) print_line(format_step(m, last));
        bar->set_suffix(fmt::format("loss {:.3f}  {} tok/s", m.loss, format_count(m.tokens_per_second)));
        bar->update(m.step);
    };
    observer.validation = [](int64_t step, double loss) {
        print_line(fmt::format("step {} | validation loss {:.4f} | perplexity {:.2f}", step, loss, std::exp(loss)));
    };
    observer.sample = [](int64_t step, const std::string& text) {
        print_line(fmt::format("step {} | sample: {}", step, printable(text)));
    };
    observer.checkpoint = [](const SaveOutcome& saved) {
        print_line(fmt::format("saved {} | {:.2f} s, of which training waited {:.2f} s", saved.path, saved.seconds,
                               saved.waited));
    };
    observer.note = [](const std::string& text) { log_info(text); };
    observer.warning = [](const std::string& text) { log_warning(text); };
    return observer;
}

/// The first rank's settings: others use as many threads, not the whole machine.
Context make_context(const TrainOptions& options, const RunConfig& config, const Communicator& ranks) {
    const Device device = device_of_backend(options.backend, ranks.local_rank());
    if (!options.timeline.empty() && device != Device::cpu)
        throw UserError(
            fmt::format("--timeline shows the work of a CPU, and on {} work is only queued; leave it out or pass "
                        "--backend cpu (nsys shows a GPU's, by the same names)",
                        name_of(device)));
    const bool chosen = config.train.threads > 0 || ranks.size() == 1;
    return Context(device, chosen ? static_cast<int>(config.train.threads) : threads_per_process(ranks.local_size()),
                   config.train.gemm);
}

/// Every file that the run reads.
std::vector<std::string> input_files(const TrainOptions& options, const RunConfig& config, const RunData& data) {
    std::vector<std::string> files{options.config, config.data.tokenizer};
    const auto add = [&](const std::vector<std::string>& more) { files.insert(files.end(), more.begin(), more.end()); };
    add(data.train.files());
    if (data.validation) add(data.validation->files());
    if (!config.data.index.empty()) add(data::IndexTriplet(config.data.index).files());
    return files;
}

/// UserError now for a --timeline that could not be written after the last step, or would replace what the run reads.
void check_timeline(const TrainOptions& options, const RunConfig& config, const RunData& data) {
    if (options.timeline.empty()) return;
    require_not_an_input(options.timeline, input_files(options, config, data));
    const std::filesystem::path folder = std::filesystem::path(options.timeline).parent_path();
    if (!folder.empty() && same_place(folder.string(), options.run_folder()))
        make_folders(folder.string());  // as the run would
    require_writable(options.timeline);
}

/// UserError when the corpus is too small for a run that begins. One that goes on asks the order that it has for what
/// is left, which may be enough where it would be too little to begin with.
size_t sample_order_bytes(const TrainOptions& options, const RunConfig& config, const data::TokenStore& store) {
    const bool is_list = config.data.order == data::OrderKind::neox || config.data.order == data::OrderKind::mcore;
    if (options.resume && !is_list) return 0;
    return data::Sampler::bytes(store, DataOrder(config, store).last_stretch().order);
}

/// UserError where the run would write over files that are not a run's: its own config or tokenizer, a model's folder.
void check_folder(const TrainOptions& options, const RunConfig& config, const RunDirectory& directory) {
    const std::vector<std::string> inputs{options.config, config.data.tokenizer};
    for (const char* written : {"config.toml", "tokenizer.json"}) require_not_an_input(directory.file(written), inputs);
    if (std::filesystem::exists(directory.file("config.json")))
        throw UserError(fmt::format("{} is a model's folder; choose another --out", directory.path()));
}

/// From its destruction on the watch knows that the device and the other ranks are left, however the run ended.
class WatchedEnd {
  public:
    explicit WatchedEnd(OuterWatch& watch) : watch_(watch) {}
    ~WatchedEnd() { watch_.enter("leaving the device and the other ranks", WaitsFor::ranks); }
    WatchedEnd(const WatchedEnd&) = delete;
    WatchedEnd& operator=(const WatchedEnd&) = delete;

  private:
    OuterWatch& watch_;
};

int train_as_rank(const TrainOptions& options, RunConfig config, Communicator& ranks, OuterWatch& watch) {
    config.validate();
    watch.enter("opening the data and the device", WaitsFor::nobody);
    RunData data = RunData::open(config.data);
    resolve_vocabulary(config.model, data.tokenizer.vocab_size());
    config.validate();

    Context context = make_context(options, config, ranks);
    if (ranks.is_first()) check_timeline(options, config, data);
    const Distribution distribution(config, ranks);
    MemoryPlan plan = plan_memory(context, config, distribution);
    plan.sample_order = sample_order_bytes(options, config, data.train);
    watch.enter("printing its plan", WaitsFor::reader);
    if (ranks.is_first()) print_startup(config, context, data, plan, distribution);
    require_fit(plan, context.device(), context.available_memory(),
                memory_of_neighbours(context, config, distribution, plan));
    watch.enter("waiting for all ranks", WaitsFor::ranks);
    ranks.barrier();  // what a neighbour had taken by then would count twice
    watch.enter("connecting to all ranks", WaitsFor::ranks);
    context.connect(ranks);

    watch.enter("allocating the run's memory", WaitsFor::nobody);
    RunDirectory directory(options.run_folder());
    if (ranks.is_first() && !directory.has_run()) check_folder(options, config, directory);
    const InterruptGuard guard;
    std::unique_ptr<Progress> bar;
    TrainObserver observer;
    if (ranks.is_first()) {
        observer = make_observer(config, bar);
        observer.started = [&, show = observer.started](int64_t first) {
            write_run_environment(directory.file("environment.json"), context, plan);
            warn_of_untrained_positions(config);
            show(first);
        };
    }
    observer.watched = [&watch] { watch.pause(); };
    Trainer trainer(context, config, data, directory, observer, distribution);
    const WatchedEnd end(watch);
    const StartMode mode = options.resume      ? StartMode::resume
                           : options.overwrite ? StartMode::overwrite
                                               : StartMode::fresh;
    if (!options.timeline.empty() && ranks.is_first()) trainer.keep_timeline(kTimelineUpdates);
    watch.enter("taking the run's folder and meeting all ranks", ranks.is_first() ? WaitsFor::nobody : WaitsFor::ranks);
    const RunStatus status = trainer.run(mode, options.allow_data_change ? DataChange::allowed : DataChange::refused);
    if (!ranks.is_first()) return exit_code::kDone;
    watch.enter("printing what was done", WaitsFor::reader);
    if (bar) bar->finish();
    if (!options.timeline.empty()) {
        trainer.timeline().write(options.timeline, ranks.rank());
        print_line(describe(trainer.timeline().overlap(), config, distribution));
    }
    const std::string where = ranks.size() > 1 ? fmt::format(" on {} ranks", ranks.size()) : "";
    print_line(status == RunStatus::interrupted
                   ? fmt::format("interrupted; continue{} with: {}", where, options.resume_command())
                   : "done: " + options.run_folder());
    return exit_code::kDone;
}

void train_command(const TrainOptions& options) {
    if (options.show_keys) {
        std::cout << to_help(RunConfig{});
        return;
    }
    if (options.config.empty())
        throw UserError("which run? give a config, e.g. ballast train configs/pythia/160m.toml");
    if (options.plan_only) {
        const RunConfig config = RunConfig::load(options.config, options.settings);
        config.validate();
        return print_dry_run(options.dry_run, config);
    }
    let_output_be_lost();
    RunConfig config;
    std::exception_ptr mistake;  // told when ranks know their numbers, so that one of them tells it
    try {
        config = RunConfig::load(options.config, options.settings);
    } catch (...) {
        mistake = std::current_exception();
    }
    std::unique_ptr<Communicator> ranks;  // outlives the watch where the run ends with an error
    OuterWatch watch(static_cast<double>(config.train.hang_timeout_seconds));
    watch.enter("starting MPI", WaitsFor::ranks);
    ranks = make_communicator();
    watch.set_ranks(*ranks);
    run_ranks(*ranks, "ballast", [&] {
        if (mistake) std::rethrow_exception(mistake);
        return train_as_rank(options, config, *ranks, watch);
    });
    watch.leave_ranks();
    ranks.reset();  // waits for all ranks
}

}  // namespace

void add_train_command(Command app) {
    auto options = std::make_shared<TrainOptions>();
    Command command = app.add_subcommand("train", "Train a model");
    command.add_option("config", options->config, "TOML file of the run (configs/)");
    command.add_option("--set", options->settings, "change a field: section.key=value (repeat as needed)")
        .one_value_each()
        .type_name("A.B=V");
    command.add_option("-o,--out", options->out, "run folder; default: runs/<name of the config>");
    Option resume = command.add_flag("--resume", options->resume,
                                     "continue from the newest valid checkpoint, or start when there is none");
    command
        .add_flag(
            "--allow-data-change", options->allow_data_change,
            "resume although the corpus or the settings ask for another order of samples, which then begins anew: "
            "samples come twice")
        .needs(resume);
    command.add_flag("--overwrite", options->overwrite, "replace the run that is in the folder").excludes(resume);
    add_backend_option(command, options->backend);
    command.add_option(
        "--timeline", options->timeline,
        "write what rank 0 did when in the last 20 updates, for chrome://tracing or Perfetto (JSON; CPU)");
    command.add_flag("--keys", options->show_keys, "list every field of a config with its default and meaning");
    Option dry = command.add_flag("--dry-run", options->plan_only,
                                  "print what the run takes, by count, and train nothing: memory of a rank, time of an "
                                  "update, communication, MFU, days");
    command.add_option("--ranks", options->dry_run.ranks, "with --dry-run: numbers of ranks, e.g. 1,8,64")
        .delimiter(',')
        .in_range(1, 1 << 20)
        .needs(dry);
    command
        .add_option("--gpu", options->dry_run.gpu, "with --dry-run: what a rank computes on; cpu: this machine, timed")
        .one_of(train::machine_names())
        .capture_default_str()
        .needs(dry);
    command
        .add_option("--net", options->dry_run.net,
                    "with --dry-run: rate at which a rank receives while it sends as much, e.g. 400Gb/s or 50GB/s")
        .type_name("RATE")
        .needs(dry);
    command.footer(
        "Example:\n  ballast train configs/pythia/14m.toml --set data.train=train.h5 --set data.validation=val.h5 \\\n"
        "    --set data.tokenizer=tokenizer.json --set train.global_batch=32 --set train.steps=1000 --out runs/14m\n"
        "An empty data.validation (--set data.validation=) trains without held-out text.\n"
        "Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 save and stop (under mpirun: kill -USR1 PID of mpirun, as it kills a "
        "second after Ctrl-C); the same command with --resume continues to the bit. "
        "Resumed "
        "with more steps or another batch, a run goes on at the first sample it has not read.");
    command.callback([options] { train_command(*options); });
}

}  // namespace ballast
