// ballast moa optimise and show, and the list of all of them
#include <array>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/moa_commands.h"
#include "cli/moa_stages.h"
#include "cli/plan_folder.h"
#include "moa/cbc.h"
#include "moa/picture.h"
#include "train/load_model.h"

namespace ballast {

void MoaOptimiseOptions::add_to(Command command) {
    command.add_option("--density", options.density, "most of a dense cache's memory that heads keep, at every length")
        .capture_default_str();
    command.add_option("--least-share", options.least_share,
                       "and at least this share of it (0.9 in the MoA project's code); 0: no bound");
    command
        .add_option("--max-length", options.longest,
                    "longest text of the plan; default: twice the longest profiled, within the model's positions")
        .positive();
    command.add_option("--alphas", options.alphas, "constants of the rules, evenly from -shortest to longest; 1: none")
        .in_range(1, 1000)
        .capture_default_str();
    command.add_option("--betas", options.betas, "shares of the text, evenly from 0 to 1; 1: none, spans do not grow")
        .in_range(1, 1000)
        .capture_default_str();
    command.add_option("--sinks", options.sinks, "positions at the start that every head keeps; default: one block")
        .non_negative();
    command.add_option("--rules-per-layer", options.rules_per_layer, "different rules in a layer: 1 or 2")
        .in_range(1, 2)
        .capture_default_str();
    command
        .add_option(
            "--measure", measure,
            "what a rule loses: second-order (optimise's default, where the profile has it), or the influence of "
            "what it hides, absolute or signed; search tries second-order and absolute, and validates both")
        .one_of(std::vector<std::string>(moa::kLossMeasureNames.begin(), moa::kLossMeasureNames.end()));
    command
        .add_option("--alike", options.alike,
                    "losses are alike when they differ by less than this share of what the sinks and a block alone "
                    "lose; of plans that lose alike, the one that suits --max-length best; 0: only of equal ones")
        .in_range_of_reals(0, 1)
        .capture_default_str();
    command.add_flag(
        "--by-query-head", options.by_query_head,
        "grouped heads: a rule a query head (the density is of what they attend to), not a key-value head");
    command.add_option("--gap", gap_percent, "percent between a program's value and its bound that is good enough")
        .non_negative()
        .capture_default_str();
    command.add_option("--intervals", options.pareto.intervals, "limits on each other length's loss")
        .in_range(1, 100)
        .capture_default_str();
    command.add_option("--seconds", options.pareto.seconds, "time that cbc may take in all")
        .non_negative()
        .capture_default_str();
    command
        .add_option("--solver", solver,
                    "cbc: after the Lagrangian where its gap is larger; auto: where it is installed")
        .one_of({"auto", "cbc", "lagrangian"})
        .capture_default_str();
}

namespace {

std::string program_line(const moa::ProgramReport& r, const moa::Profile& profile) {
    std::string limits;
    for (size_t k = 0; k < r.program.limits.size(); ++k)
        if (std::isfinite(r.program.limits[k]))
            limits += fmt::format(", {} <= {:.4g}", profile.lengths[k].length, r.program.limits[k]);
    const std::string found = r.solution.found
                                  ? fmt::format("{:.5g}, gap {:.2f} %", r.solution.value, 100 * r.solution.gap())
                              : r.solution.infeasible ? "no such plan"
                                                      : "nothing found";
    return fmt::format("{:>3}/{} loss at {}{}: {}, {:.1f} s{}\n", r.number, r.of,
                       profile.lengths[r.program.objective].length, limits, found, r.seconds,
                       r.used_cbc ? ", cbc" : "");
}

}  // namespace

void MoaOptimiseOptions::resolve() {
    options.pareto.gap = gap_percent / 100;
    const auto& names = moa::kLossMeasureNames;
    if (const auto name = std::find(names.begin(), names.end(), measure); name != names.end())
        options.measure = static_cast<moa::LossMeasure>(name - names.begin());
    if (solver != "lagrangian") options.pareto.cbc = moa::find_cbc();
    if (options.pareto.cbc.empty() && solver == "cbc")
        throw UserError("cbc is not installed; apt-get install coinor-cbc, or use --solver lagrangian");
}

void MoaOptimiseOptions::check(const moa::Profile& profile) {
    resolve();
    moa::check_options(profile, options);
}

std::vector<moa::PlanCandidate> MoaOptimiseOptions::run(const moa::Profile& profile) {
    resolve();
    if (options.pareto.cbc.empty() && solver == "auto")
        log_warning("cbc is not installed (apt-get install coinor-cbc); gaps stay what the Lagrangian leaves");
    const size_t count = moa::count_programs(profile.lengths.size(), options.pareto.intervals);
    Progress progress("optimise", static_cast<int64_t>(count), "programs");
    std::string lines;
    double largest_gap = 0;
    auto candidates = moa::optimise(profile, options, [&](const moa::ProgramReport& report) {
        lines += program_line(report, profile);
        if (report.solution.found) largest_gap = std::max(largest_gap, report.solution.gap());
        progress.set_suffix(
            fmt::format("gap {:.2f} %, at most {:.2f} %", 100 * report.solution.gap(), 100 * largest_gap));
        progress.update(static_cast<int64_t>(report.number));
    });
    progress.finish();
    std::cout << lines
              << fmt::format("{} programs, largest gap {:.2f} %; {} plans that none of the others beats everywhere\n",
                             count, 100 * largest_gap, candidates.size());
    return candidates;
}

namespace {

struct OptimiseCommand {
    std::string profile, out, all;
    MoaOptimiseOptions search;

    void run() {
        require_not_an_input(out, std::array{profile});
        infer::require_plan_name(out);
        require_writable(out);
        const moa::Profile read = moa::read_profile(profile);
        if (!all.empty()) prepare_all();
        const InterruptGuard guard;
        const auto candidates = search.run(read);
        const infer::SpanPlan& plan = candidates[moa::most_even(candidates)].plan;
        infer::write_span_plan(out, plan);
        if (!all.empty()) PlanFolder(all).write(candidates);
        std::vector<int64_t> lengths;
        for (const auto& figure : plan.figures) lengths.push_back(figure.length);
        std::cout << moa::density_table(plan, read.shape.kv_heads, lengths) << fmt::format("-> {}\n", out);
    }

  private:
    /// Before the search, not after it.
    void prepare_all() const {
        const std::filesystem::path plan(out);
        if (same_place(plan.has_parent_path() ? plan.parent_path().string() : ".", all))
            throw UserError(fmt::format(
                "{} lies in the folder of --all, which is replaced as a whole; choose another for --out", out));
        PlanFolder(all).prepare();
    }
};

struct ShowCommand {
    static constexpr std::array kTableOptions{"--threshold", "--sinks", "--recent", "--block"};

    std::string plan, model, out, svg;
    int64_t length = 0;
    std::vector<int64_t> lengths;
    infer::DuoOptions duo;

    void run(const Command& command) const {
        require_used_options(command);
        infer::require_plan_name(out);
        for (const std::string& output : {out, svg})
            if (!output.empty()) {
                require_not_an_input(output, std::array{plan});
                require_writable(output);
            }
        require_different_outputs({{"--out", out}, {"--svg", svg}});
        const infer::SpanPlan read =
            infer::is_score_table(plan) ? infer::read_duo_plan(plan, duo) : infer::read_span_plan(plan);
        const std::vector<int64_t> all = lengths.empty() ? moa::lengths_to_show(read) : lengths;
        int64_t at = length > 0 ? length : all.back();
        int64_t kv_heads = read.shape ? read.shape->kv_heads : read.entries;
        std::string memory;
        if (!model.empty()) {
            const model::ModelConfig config = train::find_model(model).config;
            if (length == 0) at = std::min(at, config.max_position_embeddings);
            infer::cache_plan(read, config, at);  // is it this model's?
            kv_heads = config.key_value_heads();
            memory = memory_text(read, config, at);
        }
        std::cout << fmt::format("caches of {} layers, {} heads each, at {} positions: share of the text, mean\n",
                                 read.layers, read.entries, at)
                  << moa::plan_picture(read, at) << "\n"
                  << moa::density_table(read, kv_heads, all) << memory;
        if (!svg.empty()) write_file(svg, moa::plan_svg(read, at));
        if (!out.empty()) infer::write_span_plan(out, read);
    }

  private:
    /// UserError for an option of tables beside a plan, in which it would change nothing.
    void require_used_options(const Command& command) const {
        if (infer::is_score_table(plan)) return;
        for (const char* option : kTableOptions)
            if (command.count(option) > 0)
                throw UserError(fmt::format(
                    "{} is for DuoAttention's tables (.tsv), and {} is read as a plan; leave it out", option, plan));
    }

    static std::string memory_text(const infer::SpanPlan& read, const model::ModelConfig& config, int64_t N) {
        int64_t rows = 0;
        for (int64_t l = 0; l < config.num_layers; ++l)
            for (int64_t g = 0; g < config.key_value_heads(); ++g)
                rows += infer::kept_rows(read, l, g, config.key_value_heads(), N);
        const auto megabytes = [&](int64_t count) {
            return static_cast<double>(2 * count * config.head_dim() * 2) / 1e6;  // keys and values of 2 bytes
        };
        return fmt::format("a text of {} positions in bf16: {:.1f} MB of keys and values, dense {:.1f} MB\n", N,
                           megabytes(rows), megabytes(config.num_layers * config.key_value_heads() * N));
    }
};

}  // namespace

void add_moa_optimise(Command parent) {
    auto o = std::make_shared<OptimiseCommand>();
    Command command = parent.add_subcommand("optimise", "The plan that loses least within a density, from a profile");
    command.add_option("profile", o->profile, "file of ballast moa profile").required();
    command.add_option("-o,--out", o->out, "plan to write: the one that is near the best at every length").required();
    command.add_option("--all", o->all, "folder for the whole Pareto set, for ballast moa validate");
    o->search.add_to(command);
    command.footer("Example:\n  ballast moa optimise profile.h5 --density 0.5 -o plan.json --all plans");
    command.callback([o] { o->run(); });
}

void add_moa_show(Command parent) {
    auto o = std::make_shared<ShowCommand>();
    Command command = parent.add_subcommand("show", "A plan's spans by layer and head, its densities and memory");
    command.add_option("plan", o->plan, "plan, or DuoAttention's table of head scores (.tsv)").required();
    constexpr int64_t kLongest = int64_t{1} << 40;  // that a plan's numbers are valid for
    command
        .add_option("--length", o->length,
                    "positions of the picture; default: the last of --lengths, but no more than --model has")
        .in_range(1, kLongest);
    command.add_option("--lengths", o->lengths, "lengths of the table; default: the plan's")
        .delimiter(',')
        .one_value_each()
        .in_range(1, kLongest);
    command.add_option("--model", o->model, "model to hold the plan against, and for its memory");
    command.add_option("--threshold", o->duo.threshold, ".tsv: scores from which a head keeps everything")
        .capture_default_str();
    command.add_option("--sinks", o->duo.sinks, ".tsv: positions at the start of the other heads")
        .capture_default_str();
    command.add_option("--recent", o->duo.recent, ".tsv: and at the end").capture_default_str();
    command.add_option("--block", o->duo.block, ".tsv: positions of a block").capture_default_str();
    command.add_option("--svg", o->svg, "write a drawing of it");
    command.add_option("-o,--out", o->out, "write it as a plan");
    command.footer("Example:\n  ballast moa show plan.json --lengths 512,1024,2048 --model runs/160m --svg plan.svg");
    command.callback([o, command] { o->run(command); });
}

void add_moa_command(Command app) {
    Command command =
        app.add_subcommand("moa", "Find a mixture of attention spans: how far each head has to look back");
    command.require_subcommand();
    add_moa_calibrate(command);
    add_moa_profile(command);
    add_moa_optimise(command);
    add_moa_validate(command);
    add_moa_search(command);
    add_moa_show(command);
}

}  // namespace ballast
