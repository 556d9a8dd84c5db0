// ballast moa calibrate|profile|validate
#include "cli/moa_stages.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/columns.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/json_figure.h"
#include "base/json_file.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/memory.h"
#include "data/corpus.h"
#include "kernels/backend.h"
#include "moa/profiler.h"
#include "moa/validate.h"

namespace ballast {

MoaModel::MoaModel(const std::string& path, const TextOptions& options)
    : context(options.make_context()),
      loaded(train::load_model(path, context, dtype_of_option(options.dtype))),
      tokenizer(options.load_tokenizer(loaded)),
      begin_of_text(begin_of_text_of(tokenizer, loaded)),
      settings{.dtype = options.dtype, .gemm = options.gemm, .tokenizer = tokenizer.hash()} {}

std::vector<moa::ItemTokens> MoaModel::tokens_of(const std::vector<moa::Item>& items, const std::string& source) const {
    const moa::ItemEncoder encode(tokenizer, config(), begin_of_text);
    std::vector<moa::ItemTokens> out;
    for (size_t i = 0; i < items.size(); ++i) {
        try {
            out.push_back(encode(items[i]));
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: item {}: {}", source, i + 1, error.what()));
        }
    }
    return out;
}

moa::Documents MoaModel::documents(const TextOptions& text) const {
    data::Corpus corpus(text.text,
                        {.last_cut = [&](std::string_view piece) { return tokenizer.last_safe_cut(piece); }});
    data::Encoder encoder(tokenizer);
    moa::Documents out;
    int64_t count = 0;
    for (data::TextPiece piece; (text.max_tokens == 0 || count < text.max_tokens) && corpus.next(piece);) {
        if (piece.begins_document || out.empty()) out.emplace_back();
        const auto before = std::ssize(out.back());
        try {
            encoder.encode(piece.text, out.back(), {.continues = !piece.begins_document, .first_offset = piece.offset});
        } catch (const UserError& error) {
            throw UserError(fmt::format("{}: {}", piece.source, error.what()));
        }
        count += std::ssize(out.back()) - before;
        if (text.max_tokens > 0 && count > text.max_tokens)
            out.back().resize(out.back().size() - static_cast<size_t>(count - text.max_tokens));
    }
    return out;
}

// ---- calibrate ------------------------------------------------------------------------------------------------------

namespace {

void add_lengths(Command command, std::vector<int64_t>& lengths, const char* help) {
    command.add_option("--lengths", lengths, help).delimiter(',').one_value_each().positive().required();
}

}  // namespace

void CalibrateStage::add_to(Command command) {
    add_lengths(command, options.lengths, "positions of an item, its answer included, e.g. 512,1024,2048");
    command.add_option("--count", options.count, "items of each length").positive().capture_default_str();
    command
        .add_option("--answer-tokens", options.answer_tokens,
                    "most tokens of an answer; not of --kind plain, whose answer is the passage")
        .positive()
        .capture_default_str();
    command
        .add_option("--kind", kind,
                    "model: the model's own answer to an instruction about a passage; human: the text that follows the "
                    "passage; human_context: the same, with a loss on the passage too; plain: a passage alone")
        .one_of(std::vector<std::string>(moa::kItemKindNames.begin(), moa::kItemKindNames.end()))
        .capture_default_str();
    command.add_option("--instruction", instruction_file,
                       "--kind model: file with the prompt, {passage} where the passage goes; default: asks for a "
                       "summary");
    command.add_option("--seed", options.seed, "decides which passages").capture_default_str();
}

void CalibrateStage::check() const {
    if (!instruction_file.empty() && kind != moa::kItemKindNames[static_cast<size_t>(moa::ItemKind::model)])
        throw UserError(fmt::format("--instruction is for --kind model, and items of the kind {} have none", kind));
}

void CalibrateStage::run(MoaModel& model, const moa::Documents& documents, const std::string& out) const {
    moa::CalibrateOptions chosen = options;
    chosen.kind = static_cast<moa::ItemKind>(std::find(moa::kItemKindNames.begin(), moa::kItemKindNames.end(), kind) -
                                             moa::kItemKindNames.begin());
    if (!instruction_file.empty()) chosen.instruction = read_file(instruction_file);
    Progress progress("calibrate", std::ssize(chosen.lengths) * chosen.count * chosen.answer_tokens, "tokens");
    const auto items = moa::calibrate(model.context, *model.loaded.model, model.tokenizer, model.begin_of_text,
                                      documents, chosen, [&](int64_t done) { progress.update(done); });
    progress.finish();
    moa::write_items(out, items);
    std::cout << fmt::format("{} items -> {}\n", items.size(), out);
}

// ---- profile --------------------------------------------------------------------------------------------------------

void ProfileStage::add_to(Command command) {
    add_lengths(command, lengths, "positions of the sequences to profile, e.g. 512,1024,2048");
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

// ---- validate -------------------------------------------------------------------------------------------------------

namespace {

/// The index of the least finite loss. RunError where none is finite.
size_t least_finite(const std::vector<double>& losses) {
    const auto before = [](double a, double b) { return std::isfinite(a) && !(std::isfinite(b) && b <= a); };
    const auto least = std::min_element(losses.begin(), losses.end(), before);
    if (!std::isfinite(*least))
        throw RunError(
            "no plan has a finite loss, so none is the best; does ballast eval streaming give a finite "
            "perplexity for this model?");
    return static_cast<size_t>(least - losses.begin());
}

/// "nan" for every NaN, never "-nan".
std::string loss_text(double loss, bool with_sign = false) {
    if (std::isnan(loss)) return "nan";
    return with_sign ? fmt::format("{:+.4f}", loss) : fmt::format("{:.4f}", loss);
}

}  // namespace

size_t validate_plans(MoaModel& model, const std::string& items, const std::vector<std::string>& plans, int64_t length,
                      const std::string& json) {
    const auto tokens = moa::items_of_length(model.tokens_of(moa::read_items(items), items), length);
    if (tokens.empty())
        throw UserError(
            fmt::format("{} has no item of more than {} and at most {} positions", items, 3 * length / 4, length));
    std::vector<infer::SpanPlan> read;
    for (const std::string& path : plans) {
        read.push_back(infer::read_span_plan(path));
        for (const auto& item : tokens) infer::cache_plan(read.back(), model.config(), item.length());
    }
    const int64_t kv_heads = model.config().key_value_heads();
    Progress progress("validate", std::ssize(tokens) * (std::ssize(plans) + 1), "items");
    const auto loss_of = [&](const std::optional<infer::SpanPlan>& plan, int64_t before) {
        return moa::validation_loss(model.context, *model.loaded.model, plan, tokens,
                                    [&](int64_t done) { progress.update(before + done); });
    };
    const double dense = loss_of(std::nullopt, 0);
    std::vector<std::vector<std::string>> rows{{"plan", "loss", "over dense", "memory"},
                                               {"dense", loss_text(dense), "", "1.0000"}};
    nlohmann::ordered_json results = nlohmann::ordered_json::array();
    std::vector<double> losses;
    for (size_t i = 0; i < plans.size(); ++i) {
        losses.push_back(loss_of(read[i], static_cast<int64_t>((i + 1) * tokens.size())));
        const double density = infer::memory_density(read[i], kv_heads, length);
        rows.push_back({plans[i], loss_text(losses.back()), loss_text(losses.back() - dense, true),
                        fmt::format("{:.4f}", density)});
        results.push_back({{"plan", plans[i]}, {"loss", json_figure(losses.back())}, {"density", density}});
    }
    progress.finish();
    std::cout << fmt::format("{} items of at most {} positions\n", tokens.size(), length) << align_columns(rows);
    if (!json.empty())
        write_json_file(
            json, nlohmann::ordered_json{
                      {"length", length}, {"items", tokens.size()}, {"dense", json_figure(dense)}, {"plans", results}});
    return least_finite(losses);
}

// ---- the commands ---------------------------------------------------------------------------------------------------

namespace {

void add_model(Command command, std::string& model) {
    command.add_option("model", model, "run folder, checkpoint file or Hugging Face folder").required();
}

struct CalibrateCommand {
    std::string model, out;
    TextOptions text;
    CalibrateStage stage;

    void run() const {
        stage.check();
        text.require_output(out, std::array{model, stage.instruction_file});
        const InterruptGuard guard;
        MoaModel loaded(model, text);
        stage.run(loaded, loaded.documents(text), out);
    }
};

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

struct ValidateCommand {
    std::string model, items, out, json;
    std::vector<std::string> plans;
    int64_t length = 0;
    TextOptions run_options;

    void run() const {
        std::vector<std::string> inputs = plans;
        inputs.insert(inputs.end(), {model, items});
        for (const std::string& path : {out, json}) run_options.require_output(path, inputs);
        require_different_outputs({{"--out", out}, {"--json", json}});
        infer::require_plan_name(out);
        const InterruptGuard guard;
        MoaModel loaded(model, run_options);
        const size_t best = validate_plans(loaded, items, plans, length, json);
        std::cout << fmt::format("least: {}\n", plans[best]);
        if (!out.empty()) infer::write_span_plan(out, infer::read_span_plan(plans[best]));
    }
};

}  // namespace

void add_moa_calibrate(Command parent) {
    auto o = std::make_shared<CalibrateCommand>();
    Command command =
        parent.add_subcommand("calibrate", "Long prompts with the dense model's own answers, to profile on");
    add_model(command, o->model);
    o->text.add_to(command).required();
    o->stage.add_to(command);
    command.add_option("-o,--out", o->out, "JSON lines to write: {\"prompt\", \"answer\", \"kind\"}").required();
    command.footer(
        "Example:\n  ballast moa calibrate smollm2 --text books --lengths 512,1024,2048 --count 20 -o items.jsonl");
    command.callback([o] { o->run(); });
}

void add_moa_profile(Command parent) {
    auto o = std::make_shared<ProfileCommand>();
    Command command = parent.add_subcommand("profile", "How much the loss hangs on every attention value, by block");
    add_model(command, o->model);
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

void add_moa_validate(Command parent) {
    auto o = std::make_shared<ValidateCommand>();
    Command command =
        parent.add_subcommand("validate", "What plans lose at a length that no profile saw; the best is kept");
    add_model(command, o->model);
    command.add_option("calibration", o->items, "items of ballast moa calibrate that were not profiled").required();
    command.add_option("plans", o->plans, "plans of ballast moa optimise --all").required();
    command.add_option("--length", o->length, "items of more than 3/4 of so many positions and at most so many")
        .positive()
        .required();
    o->run_options.add_model_options(command);
    command.add_option("-o,--out", o->out, "the plan that loses least");
    command.add_option("--json", o->json, "file for the figures");
    command.footer(
        "Example:\n  ballast moa validate smollm2 other_items.jsonl plans/*.json --length 3072 -o plan.json");
    command.callback([o] { o->run(); });
}

}  // namespace ballast
