// ballast moa profile
#include "cli/moa_stages.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <memory>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/memory.h"
#include "kernels/backend.h"
#include "moa/profiler.h"

namespace ballast {

void ProfileStage::add_to(Command command) {
    add_moa_lengths(command, lengths, "positions of the sequences to profile, e.g. 512,1024,2048");
    command.add_option("--block", block, "positions of a block; default: a 32nd of the shortest length, 8 to 64")
        .positive();
    command
        .add_option("--draws", draws,
                    "labellings by the model of each item, a pass each, for second-order losses; 0: the influence of "
                    "single values alone, as in MoA")
        .in_range(0, moa::kMostDraws)
        .capture_default_str();
    command.add_option("--count", count, "most items of each length; default: all there are").positive();
}

namespace {

/// The profile to go on with: a new one, or `path` where it is there and of the same things.
moa::Profile profile_to_continue(moa::Profile fresh, const std::string& path) {
    if (!std::filesystem::exists(path)) return fresh;
    moa::Profile found = moa::read_profile(path);
    const auto lengths_of = [](const moa::Profile& profile) {
        std::vector<int64_t> out;
        for (const auto& at : profile.lengths) out.push_back(at.length);
        return out;
    };
    const bool same = found.model == fresh.model && found.step == fresh.step && found.shape == fresh.shape &&
                      found.block == fresh.block && found.draws == fresh.draws &&
                      found.calibration == fresh.calibration && lengths_of(found) == lengths_of(fresh);
    if (!same)
        throw UserError(fmt::format(
            "{} is a profile of another model, other items, lengths, blocks or draws; remove it or name another file",
            path));
    const auto require_equal = [&](const char* what, const std::string& then, const std::string& now) {
        if (!then.empty() && then != now)
            throw UserError(
                fmt::format("{} was made with {} {}, and now it is {}; go on with the same, remove it or name another "
                            "file",
                            path, what, then, now));
    };
    require_equal("--dtype", found.settings.dtype, fresh.settings.dtype);
    require_equal("--gemm", found.settings.gemm, fresh.settings.gemm);
    require_equal("a tokenizer of checksum", found.settings.tokenizer, fresh.settings.tokenizer);
    return found;
}

class ProfileRun {
  public:
    ProfileRun(MoaModel& model, moa::Profile& profile, const std::string& out)
        : model_(model), profile_(profile), out_(out) {}

    void length(moa::LengthProfile& at, const std::vector<moa::ItemTokens>& items, Progress& progress) {
        if (at.sequences >= std::ssize(items)) return;
        moa::Profiler profiler(model_.context, *model_.loaded.model, at.length, profile_.block, profile_.draws);
        for (size_t i = static_cast<size_t>(at.sequences); i < items.size(); ++i) {
            profiler.add(items[i], at);
            progress.set_suffix(
                fmt::format("length {}, loss {:.3f}", at.length, at.loss / static_cast<double>(at.sequences)));
            progress.add(1);
            if (interrupted()) {
                save();
                throw RunError(fmt::format("interrupted; what was done is in {}, and the same command goes on", out_));
            }
            if (Clock::now() - saved_ > kEvery) save();
        }
        save();
    }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::seconds kEvery{10};

    void save() {
        moa::write_profile(out_, profile_);
        saved_ = Clock::now();
    }

    MoaModel& model_;
    moa::Profile& profile_;
    std::string out_;
    Clock::time_point saved_ = Clock::now();
};

}  // namespace

int64_t ProfileStage::block_size() const {
    const int64_t shortest = *std::min_element(lengths.begin(), lengths.end());
    return block > 0 ? block : std::clamp<int64_t>(shortest / 32, 8, 64);
}

infer::MemoryList ProfileStage::memory(const Context& context, const model::ModelConfig& config, Dtype dtype) const {
    return moa::Profiler::memory(context, config, dtype, lengths, block_size(), draws);
}

void ProfileStage::require_memory(const std::string& model, const TextOptions& options) const {
    const model::ModelConfig config = train::find_model(model).config;
    const Context context = options.make_context();
    const Dtype dtype = computable_on(context.device(), dtype_of_option(options.dtype));
    infer::MemoryList all = memory(context, config, dtype);
    all.emplace_back("weights",
                     model::Weights::bytes(model::ParameterTable(config), dtype, model::WeightUse::inference, dtype));
    const bool many_draws = draws > ProfileStage().draws;
    ballast::require_memory(
        all, context, "for the profile",
        fmt::format("choose shorter --lengths or a larger --block{}", many_draws ? ", or fewer --draws" : ""));
}

moa::Profile ProfileStage::empty(const model::ModelConfig& config) const {
    return moa::empty_profile(config, lengths, block_size(), draws);
}

void ProfileStage::run(MoaModel& model, const std::string& model_path, const std::string& items,
                       const std::string& out) const {
    moa::Profile fresh = empty(model.config());
    fresh.model = model_path;
    fresh.settings = model.settings;
    fresh.step = model.loaded.step;
    fresh.calibration = moa::checksum_of(read_file(items));
    const auto tokens = model.tokens_of(moa::read_items(items), items);
    std::vector<std::vector<moa::ItemTokens>> by_length;
    int64_t total = 0, done = 0;
    moa::Profile profile = profile_to_continue(std::move(fresh), out);
    for (const auto& at : profile.lengths) {
        auto& here = by_length.emplace_back(moa::items_of_length(tokens, at.length));
        if (here.empty())
            throw UserError(
                fmt::format("{} has no item of more than {} and at most {} positions; make some with ballast moa "
                            "calibrate --lengths {}",
                            items, 3 * at.length / 4, at.length, at.length));
        if (count > 0 && std::ssize(here) > count) here.resize(static_cast<size_t>(count));
        total += std::ssize(here);
        done += std::min(at.sequences, std::ssize(here));
    }
    say_memory(memory(model.context, model.config(), model.loaded.model->dtype()), kBesideWeights);
    Progress progress("profile", total, "items", done);
    ProfileRun run(model, profile, out);
    for (size_t i = 0; i < by_length.size(); ++i) run.length(profile.lengths[i], by_length[i], progress);
    progress.finish();
    for (const auto& at : profile.lengths)
        std::cout << fmt::format("{} positions: {} items, loss {:.4f} over {} tokens\n", at.length, at.sequences,
                                 at.loss / static_cast<double>(at.sequences), at.answer_tokens);
    std::cout << fmt::format("-> {}\n", out);
}

namespace {

struct ProfileCommand {
    std::string model, items, out;
    TextOptions run_options;
    ProfileStage stage;

    void run() const {
        run_options.require_output(out, std::array{model, items});
        stage.require_memory(model, run_options);
        const InterruptGuard guard;
        MoaModel loaded(model, run_options);
        stage.run(loaded, model, items, out);
    }
};

}  // namespace

void add_moa_profile(Command parent) {
    auto o = std::make_shared<ProfileCommand>();
    Command command = parent.add_subcommand("profile", "How much the loss hangs on every attention value, by block");
    add_moa_model(command, o->model);
    command.add_option("calibration", o->items, "items of ballast moa calibrate").required();
    o->stage.add_to(command);
    o->run_options.add_model_options(command);
    command.add_option("-o,--out", o->out, "HDF5 file to write; where it is there, the command goes on with it")
        .required();
    command.footer(
        "Example:\n  ballast moa profile smollm2 items.jsonl --lengths 512,1024,2048 -o profile.h5\n"
        "The file is saved every ten seconds and on Ctrl-C.");
    command.callback([o] { o->run(); });
}

}  // namespace ballast
