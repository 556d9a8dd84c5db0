// ballast moa search: all stages in one folder. What is there is kept, so the same command goes on where it was
// stopped.
#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/moa_commands.h"
#include "cli/moa_stages.h"
#include "cli/plan_folder.h"
#include "train/load_model.h"

namespace ballast {
namespace {

struct SearchCommand {
    std::string model, folder;
    TextOptions text;
    CalibrateStage calibrate;
    ProfileStage profile;
    MoaOptimiseOptions optimise;
    int64_t validation_length = 0, validation_count = 5;

    std::string file(const std::string& name) const { return folder + "/" + name; }
    bool there(const std::string& name) const {
        const bool found = std::filesystem::exists(file(name));
        if (found) log_info(fmt::format("{} is there and kept; remove it to make it again", file(name)));
        return found;
    }

    void run() {
        calibrate.check();
        profile.lengths = calibrate.options.lengths;
        profile.require_memory(model, text);
        check_later_stages(train::find_model(model).config);
        make_folders(folder);
        const InterruptGuard guard;
        check_settings();
        if (there("plan.json")) return;
        MoaModel loaded(model, text);
        const int64_t length = length_of_validation(profile.empty(loaded.config()));
        make_items(loaded, length);
        profile.run(loaded, model, file("items.jsonl"), file("profile.h5"));
        const std::vector<std::string> plans = plans_of(moa::read_profile(file("profile.h5")));
        const size_t best = validate_plans(loaded, file("validation.jsonl"), plans, length, file("validation.json"));
        infer::write_span_plan(file("plan.json"), infer::read_span_plan(plans[best]));
        std::cout << fmt::format("{} -> {}\n", plans[best], file("plan.json"));
    }

  private:
    /// What decides the results. Threads and backends change none that matters.
    std::string settings() const {
        return fmt::format(
            "model {}\ntext {}\nmax-tokens {}\ntokenizer {}\ndtype {}\nlengths {}\ncount {}\nanswer-tokens {}\nkind "
            "{}\ninstruction {}\nseed {}\nblock {}\ndraws {}\n"
            "density {}\nleast-share {}\nmax-length {}\nalphas {}\nbetas {}\nsinks {}\nrules-per-layer {}\nmeasure {}\n"
            "alike {}\nby-query-head {}\nintervals {}\ngap {}\nseconds {}\nsolver {}\nvalidation {} {}\n",
            model, fmt::join(text.text, " "), text.max_tokens, text.tokenizer, text.dtype,
            fmt::join(calibrate.options.lengths, ","), calibrate.options.count, calibrate.options.answer_tokens,
            calibrate.kind, calibrate.instruction_file, calibrate.options.seed, profile.block, profile.draws,
            optimise.options.density, optimise.options.least_share, optimise.options.longest, optimise.options.alphas,
            optimise.options.betas, optimise.options.sinks, optimise.options.rules_per_layer, optimise.measure,
            optimise.options.alike, optimise.options.by_query_head, optimise.options.pareto.intervals,
            optimise.gap_percent, optimise.options.pareto.seconds, optimise.solver, validation_length,
            validation_count);
    }

    /// A folder is one search: files that were made with other settings would be taken for this one's.
    void check_settings() const {
        const std::string path = file("settings.txt");
        if (std::filesystem::exists(path) && read_file(path) != settings())
            throw UserError(
                fmt::format("{} holds a search with other settings ({}); name another folder", folder, path));
    }

    /// The items to profile on, and those to validate on, of text that the others do not have.
    void make_items(MoaModel& loaded, int64_t length) const {
        const bool items = there("items.jsonl"), validation = there("validation.jsonl");
        moa::Documents documents, rest;
        if (!items || !validation) {
            documents = loaded.documents(text);
            rest = moa::hold_out(documents, length, validation_count, longest_profiled());
        }
        write_file(file("settings.txt"), settings());  // of what can be searched, and before there is anything of it
        CalibrateStage unseen = calibrate;
        unseen.options.lengths = {length};
        unseen.options.count = validation_count;
        if (!items) calibrate.run(loaded, documents, file("items.jsonl"));
        if (!validation) unseen.run(loaded, rest, file("validation.jsonl"));
    }

    int64_t longest_profiled() const { return *std::max_element(profile.lengths.begin(), profile.lengths.end()); }

    /// Before the first stage takes its hours.
    void check_later_stages(const model::ModelConfig& config) const {
        const moa::Profile empty = profile.empty(config);
        for (MoaOptimiseOptions& one : optimisers()) one.check(empty);
        length_of_validation(empty);
    }

    int64_t length_of_validation(const moa::Profile& empty) const {
        const int64_t most = moa::longest_text(empty, optimise.options);
        if (validation_length > most)
            throw UserError(
                fmt::format("a validation at {} positions, and plans for texts of at most {}; choose a shorter "
                            "--validation-length or a longer --max-length",
                            validation_length, most));
        if (validation_length > 0) return validation_length;
        return std::min(empty.lengths.back().length * 3 / 2, most);  // MoA: 12k after 8k
    }

    /// Both measures unless one was asked for: which of them is right depends on what is asked of the model
    /// (docs/moa.md), and validation finds out.
    std::vector<MoaOptimiseOptions> optimisers() const {
        if (!optimise.measure.empty()) return {optimise};
        std::vector<MoaOptimiseOptions> out(2, optimise);
        out[0].measure = moa::kLossMeasureNames.at(static_cast<size_t>(moa::LossMeasure::second_order));
        out[1].measure = moa::kLossMeasureNames.at(static_cast<size_t>(moa::LossMeasure::absolute));
        return out;
    }

    std::vector<moa::PlanCandidate> candidates_of(const moa::Profile& read) const {
        std::vector<moa::PlanCandidate> all;
        for (MoaOptimiseOptions& one : optimisers()) {
            std::cout << fmt::format("measure: {}\n", one.measure);
            for (moa::PlanCandidate& candidate : one.run(read)) all.push_back(std::move(candidate));
        }
        return all;
    }

    std::vector<std::string> plans_of(const moa::Profile& read) {
        std::vector<std::string> plans;
        if (!there("plans")) PlanFolder(file("plans")).write(candidates_of(read));
        for (const auto& entry : std::filesystem::directory_iterator(file("plans")))
            plans.push_back(entry.path().string());
        std::sort(plans.begin(), plans.end());
        if (plans.empty()) throw UserError(fmt::format("{} is empty; remove it", file("plans")));
        return plans;
    }
};

}  // namespace

void add_moa_search(Command parent) {
    auto o = std::make_shared<SearchCommand>();
    Command command = parent.add_subcommand("search", "calibrate, profile, optimise and validate, in one folder");
    command.add_option("model", o->model, "run folder, checkpoint file or Hugging Face folder").required();
    o->text.add_to(command).required();
    o->calibrate.add_to(command);
    command
        .add_option("--block", o->profile.block,
                    "positions of a block; default: a 32nd of the shortest length, 8 to 64")
        .positive();
    o->optimise.add_to(command);
    command
        .add_option("--validation-length", o->validation_length, "default: half as long again as the longest profiled")
        .positive();
    command.add_option("--validation-count", o->validation_count, "items to validate on")
        .positive()
        .capture_default_str();
    command.add_option("-o,--out", o->folder, "folder for everything; plan.json is the result").required();
    command.footer(
        "Example:\n  ballast moa search smollm2 --text books --lengths 512,1024,2048 --density 0.5 -o search50\n"
        "Stopped at any time, the same command goes on: whole files are kept, and a profile continues.");
    command.callback([o] { o->run(); });
}

}  // namespace ballast
