#include "report/measure.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <optional>

#include "base/atomic_file.h"
#include "base/error.h"
#include "eval/cache_table.h"
#include "eval/encoder_sinks.h"
#include "eval/results_json.h"
#include "kernels/backend.h"
#include "train/checkpoint.h"
#include "train/run_directory.h"

namespace ballast::report {
namespace {

namespace fs = std::filesystem;

/// Trained contexts may be shorter than the metric's usual 64 tokens.
eval::SinkOptions sink_options(const model::ModelConfig& config) {
    eval::SinkOptions options;
    options.length = std::min(options.length, config.max_position_embeddings);
    options.maps = true;
    return options;
}

eval::CacheTableOptions table_options(const model::ModelConfig& config, const MeasureOptions& wanted) {
    eval::CacheTableOptions options;
    options.cache = cache_of(config, wanted);
    std::erase_if(options.sinks, [&](int64_t sinks) { return sinks >= options.cache; });
    options.sink_metrics = sink_options(config);
    return options;
}

/// The run's newest valid checkpoint if it is newer than `step`. A damaged file is none: models are not loaded from it.
std::optional<int64_t> newer_checkpoint(const train::RunDirectory& directory, int64_t step) {
    const std::vector<int64_t> steps = directory.checkpoint_steps();
    for (auto candidate = steps.rbegin(); candidate != steps.rend() && *candidate > step; ++candidate) {
        try {
            train::verify_checkpoint(directory.checkpoint_path(*candidate));
            return *candidate;
        } catch (const UserError&) {  // whoever loads the run is told
        }
    }
    return std::nullopt;
}

constexpr int64_t kNotMeasured = -1, kUnknownStep = std::numeric_limits<int64_t>::max();

bool is_wanted(const eval::Measurement& measurement, const MeasureOptions& wanted) {
    if (!wanted.text.empty() && !measurement.text.empty() && measurement.text != wanted.text) return false;
    const auto* cell = std::get_if<eval::StreamingResult>(&measurement.metrics);
    return cell == nullptr || wanted.cache == 0 || eval::total_positions(cell->policy) == wanted.cache;
}

/// The step of a kind's measurements, as far as they are wanted: the oldest of those that measure() would replace, or
/// else the newest. Files that the user made may hold older ones for ever. Those of the model in other weights do not
/// count.
template <class M>
int64_t measured_step(const std::vector<eval::Measurement>& measurements, const MeasureOptions& wanted,
                      const std::string& own_file) {
    int64_t own = kUnknownStep, other = kNotMeasured;
    bool has_own = false;
    for (const eval::Measurement& measurement : measurements) {
        if (!std::holds_alternative<M>(measurement.metrics) || !measurement.weights.empty()) continue;
        if (!is_wanted(measurement, wanted)) continue;
        const int64_t step = measurement.step < 0 ? kUnknownStep : measurement.step;
        if (measurement.file == own_file)
            own = std::min(own, step), has_own = true;
        else
            other = std::max(other, step);
    }
    return has_own ? own : other;
}

void require_writable_evaluations(const train::RunDirectory& directory) {
    const std::string folder = directory.file("eval");
    make_folders(folder);
    for (const char* file : {kTableFile, kSinksFile, kMapsFile}) require_writable(directory.file(file));
}

std::vector<std::vector<int32_t>> read_encoder_sequences(const std::string& run, const TextReader& text) {
    constexpr int64_t kLength = 32, kSequences = 64;
    const int64_t length = std::min(kLength, model::read_bert_config(run).max_position_embeddings);
    return text.encoder_sequences(train::encoder_source(run), length, kSequences);
}

void measure_encoder(Context& context, const MeasurePlan& plan, const std::string& text,
                     const train::RunDirectory& directory) {
    const model::Bert bert(context, plan.run);
    eval::EncoderSinkResult sinks =
        eval::evaluate_encoder_sinks(context, bert, plan.encoder_sequences, true, [](int64_t) {});
    eval::write_maps(directory.file(kMapsFile), sinks);
    eval::write_measurements(directory.file(kSinksFile), {plan.run, -1, {std::move(sinks)}, "", "", text});
}

}  // namespace

std::string text_label(const std::vector<std::string>& files, int64_t max_tokens) {
    std::vector<std::string> paths;
    for (const std::string& file : files) {
        std::error_code error;  // of a path that whoever reads it refuses
        const fs::path path = file == "-" ? fs::path(file) : fs::weakly_canonical(file, error);
        paths.push_back(error ? file : path.string());
    }
    return fmt::format("{}{}", fmt::join(paths, ", "),
                       max_tokens > 0 ? fmt::format(": the first {} tokens", max_tokens) : "");
}

int64_t cache_of(const model::ModelConfig& config, const MeasureOptions& options) {
    return options.cache > 0 ? options.cache : config.max_position_embeddings / 2;
}

Missing missing_evaluations(const std::string& run, const Evaluations& have, const MeasureOptions& wanted) {
    const train::RunDirectory directory(run);
    const auto without_maps = [&] { return !fs::exists(directory.file(kMapsFile)); };
    const std::string table = directory.file(kTableFile), attention = directory.file(kSinksFile);
    if (is_encoder_folder(run)) {
        const int64_t step = measured_step<eval::EncoderSinkResult>(have.measurements, wanted, attention);
        return {false, step == kNotMeasured || without_maps()};
    }
    const bool is_model = is_model_folder(run);
    if (!is_model && directory.checkpoint_steps().empty()) return {};
    const int64_t cells = measured_step<eval::StreamingResult>(have.measurements, wanted, table),
                  sinks = measured_step<eval::SinkResult>(have.measurements, wanted, attention);
    Missing missing{cells == kNotMeasured, sinks == kNotMeasured || without_maps()};
    if (is_model) return missing;
    const int64_t oldest = missing.cells ? sinks : missing.attention ? cells : std::min(cells, sinks);
    if (missing.cells && missing.attention) return missing;
    const auto newest = newer_checkpoint(directory, oldest);
    missing.cells |= newest > cells;
    missing.attention |= newest > sinks;
    return missing;
}

void check_measure(const model::ModelConfig& config, const MeasureOptions& options, int64_t num_tokens) {
    eval::check_cache_table(config, num_tokens, table_options(config, options));
}

MeasurePlan plan_measure(const std::string& run, Missing missing, const MeasureOptions& options,
                         const TextReader& text) {
    require_writable_evaluations(train::RunDirectory(run));
    MeasurePlan plan{run, missing, {}, {}, {}};
    if (is_encoder_folder(run)) {
        plan.encoder_sequences = read_encoder_sequences(run, text);
        return plan;
    }
    const train::ModelSource source = train::find_model(run);
    plan.config = source.config;
    plan.tokens = text.tokens(source);
    const auto num_tokens = static_cast<int64_t>(plan.tokens.size());
    try {
        if (missing.cells)
            check_measure(source.config, options, num_tokens);
        else
            eval::check_sinks(source.config, num_tokens, sink_options(source.config));
    } catch (const UserError& error) {
        throw UserError(fmt::format("{}: {}", run, error.what()));
    }
    return plan;
}

eval::MeasurementMemory measure_memory(const Context& context, const model::ModelConfig& config, Missing missing,
                                       const MeasureOptions& options, int64_t num_tokens) {
    const Dtype dtype = computable_on(context.device(), options.dtype);
    eval::MeasurementMemory memory =
        missing.cells ? eval::cache_table_memory(context, config, dtype, num_tokens, table_options(config, options))
                      : eval::sinks_memory(context, config, dtype, sink_options(config));
    memory.device.emplace_back(
        "weights", model::Weights::bytes(model::ParameterTable(config), dtype, model::WeightUse::inference));
    return memory;
}

eval::MeasurementMemory measure_memory(const Context& context, const MeasurePlan& plan, const MeasureOptions& options) {
    if (!is_encoder_folder(plan.run))
        return measure_memory(context, plan.config, plan.missing, options, static_cast<int64_t>(plan.tokens.size()));
    const auto length = static_cast<int64_t>(plan.encoder_sequences.front().size());  // of each of them
    return eval::encoder_sinks_memory(model::read_bert_config(plan.run), length, true);
}

void measure(Context& context, const std::string& run, Missing missing, const MeasureOptions& options,
             const TextReader& text) {
    measure(context, plan_measure(run, missing, options, text), options);
}

void measure(Context& context, const MeasurePlan& plan, const MeasureOptions& options) {
    const std::string& run = plan.run;
    const std::vector<uint32_t>& tokens = plan.tokens;
    const train::RunDirectory directory(run);
    if (is_encoder_folder(run)) return measure_encoder(context, plan, options.text, directory);
    const train::LoadedModel loaded = train::load_model(run, context, options.dtype);
    const model::ModelConfig& config = loaded.model->config();
    eval::SinkOptions attention = sink_options(config);
    attention.first_id = loaded.first_of_samples(tokens);
    eval::SinkResult sinks;
    const std::string dtype(name_of(options.dtype));
    if (plan.missing.cells) {
        eval::CacheTableOptions table = table_options(config, options);
        table.sink_metrics = attention;
        const std::string name = "measure " + fs::path(run).lexically_normal().filename().string();
        eval::CacheTableRow row = eval::evaluate_cache_table(context, name, *loaded.model, tokens, table);
        sinks = row.sinks;
        eval::MeasuredModel measured = to_measured_model(std::move(row), run, loaded.step);
        measured.dtype = dtype;
        measured.text = options.text;
        eval::write_measurement_table(directory.file(kTableFile), table.cache, {measured});
    } else {
        sinks = eval::evaluate_sinks(context, *loaded.model, tokens, attention);
    }
    if (!plan.missing.attention) return;  // what is there may be of other lengths, and hold more kinds
    eval::write_maps(directory.file(kMapsFile), sinks);
    eval::write_measurements(directory.file(kSinksFile),
                             {run, loaded.step, {std::move(sinks)}, dtype, "", options.text});
}

}  // namespace ballast::report
