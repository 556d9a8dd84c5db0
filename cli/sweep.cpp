// ballast sweep SWEEP.toml
#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/child_process.h"
#include "base/ending.h"
#include "base/file_lock.h"
#include "base/interrupt.h"
#include "base/json_file.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/memory.h"
#include "cli/text_options.h"
#include "kernels/backend.h"
#include "report/report.h"
#include "sweep/cost.h"
#include "sweep/measure_cell.h"
#include "sweep/run_cells.h"
#include "sweep/summary.h"

namespace ballast {
namespace {

using namespace sweep;  // every name of this file's subject
namespace fs = std::filesystem;

struct SweepOptions {
    std::string file, out, backend = "auto";
    std::vector<std::string> settings, text;
    bool dry_run = false, print = false;

    /// What continues this sweep.
    std::string command() const {
        std::vector<std::string> words{own_program(), "sweep", file, "--out", out};
        for (const std::string& setting : settings) words.insert(words.end(), {"--set", setting});
        for (const std::string& path : text) words.insert(words.end(), {"--text", path});
        if (backend != "auto") words.insert(words.end(), {"--backend", backend});
        return shell_command(words);
    }
};

class SweepCommand {
  public:
    explicit SweepCommand(const SweepOptions& options)
        : options_(options), file_(load_sweep_file(options.file)), cells_(expand(file_, options.settings)) {
        if (!options.text.empty()) file_.evaluate.text = options.text;
        resolve_data(cells_);
        for (const Cell& cell : cells_) folders_.push_back((fs::path(options.out) / cell.name).string());
        check_text();
    }

    void print_commands() const {
        for (size_t i = 0; i < cells_.size(); ++i) std::cout << shell_command(command_of(i)) << '\n';
    }

    /// What there is and what it will take.
    void plan() {
        look();
        const auto costliest = std::max_element(
            costs_.begin(), costs_.end(), [](const CellCost& a, const CellCost& b) { return a.memory < b.memory; });
        const InterruptGuard guard;  // a first update may take seconds
        const auto& train = cells_[static_cast<size_t>(costliest - costs_.begin())].config.train;
        Context context(device_of_backend(options_.backend), static_cast<int>(train.threads), train.gemm);
        if (std::any_of(statuses_.begin(), statuses_.end(), to_train)) {
            require_memory_of_cells(context);
            require_disk(statuses_, costs_, free_disk(), options_.out);
        }
        constexpr double kSeconds = 3;
        const int timed = time_steps(context, cells_, statuses_, costs_, kSeconds);
        std::cout << format_cost(cells_, statuses_, costs_, timed) << std::flush;
        if (interrupted()) throw RunError("interrupted before anything was trained");
    }

    void run() {
        let_output_be_lost();
        make_folders(options_.out);
        const auto lock = FileLock::take((fs::path(options_.out) / ".lock").string());
        if (!lock)
            throw UserError(
                fmt::format("another sweep is running in {}; wait for it or choose another --out", options_.out));
        for (const char* result : {kTable, kTableJson, kReport}) require_writable(result_file(result));
        write_file(result_file("sweep.toml"), read_file(options_.file));
        SweepOutcome outcome;
        {
            const InterruptGuard guard;
            begin_ = Clock::now();
            outcome = run_cells(cells_.size(), actions(), [this](const Failure& failure) { tell(failure); });
        }
        if (outcome.interrupted) {
            std::cout << fmt::format("interrupted; continue with: {}\n", options_.command());
            return;
        }
        finish(outcome);
    }

  private:
    using Clock = std::chrono::steady_clock;

    /// The table and the report, in the sweep's folder.
    static constexpr const char *kTable = "table.md", *kTableJson = "table.json", *kReport = "report.html";

    std::string result_file(const char* name) const { return (fs::path(options_.out) / name).string(); }

    /// Reads the text with every tokenizer there is, so that no cell is trained that cannot be measured.
    void check_text() {
        if (file_.evaluate.text.empty()) return;
        std::map<std::pair<std::string, int64_t>, int64_t> tokens;  // by tokenizer and the vocabulary it is to fit
        for (const Cell& cell : cells_) {
            const std::string& tokenizer = cell.config.data.tokenizer;
            const model::ModelConfig& model = cell.config.model;
            const auto [found, fresh] = tokens.emplace(std::pair{tokenizer, model.vocab_size}, 0);
            if (fresh)
                found->second = static_cast<int64_t>(text_of(cell).read({model, cell.name, tokenizer, "", -1}).size());
            check_measurements(cell, file_.evaluate, found->second);
            text_tokens_.push_back(found->second);
        }
    }

    TextOptions text_of(const Cell& cell) const {
        TextOptions text;
        text.text = file_.evaluate.text;
        text.max_tokens = file_.evaluate.max_tokens;
        text.gemm = cell.config.train.gemm == Gemm::reference ? "reference" : "auto";
        text.backend = options_.backend;
        text.threads = cell.config.train.threads;
        return text;
    }

    std::vector<std::string> command_of(size_t i) const {
        return train_command(own_program(), file_, cells_[i], folders_[i], options_.backend);
    }

    void look() {
        const Context context(device_of_backend(options_.backend), 1);
        for (size_t i = 0; i < cells_.size(); ++i) {
            statuses_.push_back(inspect_cell(cells_[i], folders_[i]));
            costs_.push_back(cost_of(context, cells_[i], statuses_[i]));
        }
        refuse_changed(cells_, statuses_, folders_);
    }

    void require_memory_of_cells(const Context& context) const {
        for (size_t i = 0; i < cells_.size(); ++i) {
            if (!to_train(statuses_[i])) continue;
            try {
                train::require_fit(train::plan_memory(context, cells_[i].config, train::Distribution(cells_[i].config)),
                                   context.device(), context.available_memory());
                if (!file_.evaluate.text.empty())
                    require_memory(report::measure_memory(context, cells_[i].config.model, {true, true},
                                                          measure_options(cells_[i], file_.evaluate), text_tokens_[i]),
                                   context, "to measure it", "lower cache or max_tokens in [evaluate]");
            } catch (const UserError& error) {
                throw UserError(fmt::format("cell {}: {}", cells_[i].name, error.what()));
            }
        }
    }

    /// Of the nearest folder that exists already.
    size_t free_disk() const {
        std::error_code error;
        fs::path folder = fs::absolute(options_.out);
        while (!fs::exists(folder, error) && folder.has_relative_path()) folder = folder.parent_path();
        return static_cast<size_t>(fs::space(folder).available);
    }

    CellActions actions() {
        return {[this](size_t i) {
                    CellStatus status = inspect_cell(cells_[i], folders_[i]);
                    refuse_changed({cells_[i]}, {status}, {folders_[i]});
                    return status;
                },
                [this](size_t i) { return train(i); }, [this](size_t i) { measure(i); }};
    }

    CellOutcome train(size_t i) {
        const int64_t steps = cells_[i].config.train.steps, first = statuses_[i].step;
        const double done = flops_done_;
        std::unique_ptr<Progress> bar;
        const CellOutcome outcome = train_cell(command_of(i), folders_[i], [&](int64_t step, double loss) {
            if (!bar)
                bar = std::make_unique<Progress>(fmt::format("cell {}/{} {}", i + 1, cells_.size(), cells_[i].name),
                                                 steps, "steps", std::min(first, step));
            if (step > first)
                flops_done_ =
                    done + costs_[i].flops * static_cast<double>(step - first) / static_cast<double>(steps - first);
            bar->set_suffix(fmt::format("loss {:.3f}{}", loss, sweep_left()));
            bar->update(step);
        });
        if (bar) bar->finish();
        return outcome;
    }

    std::string sweep_left() const {
        double total = 0, planned = 0;
        bool timed = true;
        for (size_t i = 0; i < cells_.size(); ++i) {
            if (!to_train(statuses_[i])) continue;
            total += costs_[i].flops;
            planned += costs_[i].seconds.value_or(0);
            timed = timed && costs_[i].seconds;
        }
        const double elapsed = std::chrono::duration<double>(Clock::now() - begin_).count();
        const auto left = time_left(flops_done_, total, elapsed, timed ? std::optional(planned) : std::nullopt);
        return left ? fmt::format("  sweep {} left", format_duration(*left)) : "";
    }

    void measure(size_t i) {
        if (file_.evaluate.text.empty()) return;
        const report::Missing missing = missing_measurements(cells_[i], folders_[i], file_.evaluate);
        if (!missing.any()) return;
        const TextOptions text = text_of(cells_[i]);
        Context context = text.make_context();
        measure_cell(context, cells_[i], folders_[i], missing, file_.evaluate,
                     [&](const train::ModelSource& source) { return text.read(source); });
    }

    void tell(const Failure& failure) const {
        log_error(fmt::format("cell {} failed: {}{}", cells_[failure.cell].name, failure.what,
                              failure.log.empty() ? "" : "; see " + failure.log));
    }

    /// Table and report of what is trained, and the end's exit code.
    void finish(const SweepOutcome& outcome) const {
        if (!outcome.trained.empty()) {
            write_summary(outcome);
            write_report(outcome);
        }
        for (const size_t i : outcome.in_use)
            std::cout << fmt::format("{} is being trained by another process; run the sweep again when it is done\n",
                                     cells_[i].name);
        if (file_.evaluate.text.empty())
            std::cout << "nothing was measured but losses; name a held-out text in [evaluate] or with --text\n";
        if (outcome.failed.empty()) return;
        std::vector<std::string> names;
        for (const Failure& failure : outcome.failed) names.push_back(cells_[failure.cell].name);
        throw RunError(fmt::format("{} of {} cells failed: {}; mend the cause and run the sweep again: {}",
                                   names.size(), cells_.size(), fmt::join(names, " "), options_.command()));
    }

    void write_summary(const SweepOutcome& outcome) const {
        std::vector<CellFigures> figures;
        for (const size_t i : outcome.trained)
            figures.push_back(read_figures(cells_[i], folders_[i], file_.evaluate.cache));
        const Summary summary = summarise(figures, static_cast<int64_t>(cells_.size()));
        const std::string text = to_markdown(summary);
        write_file(result_file(kTable), text);
        write_json_file(result_file(kTableJson), to_json(summary));
        std::cout << '\n' << text << '\n';
    }

    /// A page tells a few runs apart, not dozens.
    void write_report(const SweepOutcome& outcome) const {
        constexpr size_t kMostRuns = 8;  // the page's colours
        std::vector<std::string> shown;
        for (const size_t i : runs_to_show(cells_, outcome.trained, kMostRuns)) shown.push_back(folders_[i]);
        const bool all = shown.size() == outcome.trained.size();
        const std::string path = result_file(kReport);
        write_file(path, report::render(report::read_runs(shown, {})));
        std::cout << fmt::format("{}: {} of {} runs{}; table.md and table.json beside it\n", path, shown.size(),
                                 outcome.trained.size(), all ? "" : ", one seed of a variant, as a page holds 8");
    }

    const SweepOptions& options_;
    SweepFile file_;
    std::vector<Cell> cells_;
    std::vector<std::string> folders_;
    std::vector<int64_t> text_tokens_;  // of the text to measure on, by cell; empty where there is none
    std::vector<CellStatus> statuses_;
    std::vector<CellCost> costs_;
    double flops_done_ = 0;
    Clock::time_point begin_;
};

void sweep_command(SweepOptions options) {
    if (options.out.empty()) options.out = "runs/" + fs::path(options.file).stem().string();
    SweepCommand command(options);
    if (options.print) {
        command.print_commands();
        return;
    }
    command.plan();
    if (!options.dry_run) command.run();
}

}  // namespace

void add_sweep_command(Command app) {
    auto o = std::make_shared<SweepOptions>();
    Command command = app.add_subcommand("sweep", "Train a grid of runs, measure them, and compare them in one table");
    command.add_option("sweep", o->file, "TOML file of the sweep (configs/sweep/)").required();
    command.add_option("--set", o->settings, "change a field of every cell: section.key=value (repeat as needed)")
        .one_value_each()
        .type_name("A.B=V");
    command.add_option("--text", o->text,
                       "held-out text (UTF-8) to measure on, in place of the file's [evaluate] text");
    command.add_option("-o,--out", o->out, "folder of the cells' runs; default: runs/<name of the file>");
    Option dry = command.add_flag("--dry-run", o->dry_run, "say what it would train and take, and stop");
    command.add_flag("--print", o->print, "one ballast train command a line, for a job array, and nothing else")
        .excludes(dry);
    add_backend_option(command, o->backend);
    command.footer(
        "Example:\n  ballast sweep configs/sweep/sink_count.toml --set data.train=train.h5 --set "
        "data.validation=heldout.h5 \\\n"
        "    --set data.tokenizer=tokenizer.json --text heldout.txt --out runs/sink_count\n"
        "Cells that are finished are kept, others resumed, so the same command continues after Ctrl-C or a failure.\n"
        "On a cluster (scripts/slurm/sweep.sbatch): the same command with --print > cells.txt, then in a job array\n"
        "  eval \"$(sed -n \"${SLURM_ARRAY_TASK_ID}p\" cells.txt)\"\n"
        "and at the end the sweep itself, which finds the cells done and makes table and report.");
    command.callback([o] { sweep_command(*o); });
}

}  // namespace ballast
