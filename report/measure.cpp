#include "report/measure.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/json_file.h"
#include "base/progress.h"
#include "eval/cache_table.h"
#include "eval/results_json.h"
#include "train/run_directory.h"

namespace ballast::report {
namespace {

using nlohmann::ordered_json;

/// Trained contexts may be shorter than the metric's usual 64 tokens.
eval::SinkOptions sink_options(const model::ModelConfig& config) {
    eval::SinkOptions options;
    options.length = std::min(options.length, config.max_position_embeddings);
    options.maps = true;
    return options;
}

eval::CacheTableOptions table_options(const model::ModelConfig& config, const MeasureOptions& wanted) {
    eval::CacheTableOptions options;
    options.cache = wanted.cache > 0 ? wanted.cache : config.max_position_embeddings / 2;
    std::erase_if(options.sinks, [&](int64_t sinks) { return sinks >= options.cache; });
    options.sink_metrics = sink_options(config);
    return options;
}

eval::CacheTableRow measure_table(Context& context, const std::string& name, model::Transformer& model,
                                  const std::vector<uint32_t>& tokens, const eval::CacheTableOptions& options) {
    const auto cells = static_cast<int64_t>(options.sinks.size()) + 2, length = static_cast<int64_t>(tokens.size());
    Progress progress("measure " + name, cells * length, "tokens");
    int64_t finished = -1;
    std::string current;
    auto row =
        eval::evaluate_cache_table(context, name, model, tokens, options, [&](const std::string& cell, int64_t done) {
            if (cell != current) ++finished, current = cell;
            progress.update(finished * length + std::min(done, length));
        });
    progress.finish();
    return row;
}

ordered_json cells_json(const eval::CacheTableRow& row) {
    ordered_json cells = ordered_json::array();
    for (const auto& cell : row.cells) cells.push_back(eval::to_json(cell));
    return cells;
}

}  // namespace

Missing missing_evaluations(const std::string& run, const Evaluations& have) {
    const train::RunDirectory directory(run);
    const std::vector<int64_t> steps = directory.checkpoint_steps();
    if (steps.empty()) return {};
    const auto old = [&](int64_t step) { return step >= 0 && step != steps.back(); };
    const bool maps = std::filesystem::exists(directory.file(kMapsFile));
    return {have.cells.empty() || old(have.cells_step), have.sinks.is_null() || !maps || old(have.sinks_step)};
}

void measure(Context& context, const std::string& run, Missing missing, const MeasureOptions& options,
             const std::function<std::vector<uint32_t>(const train::LoadedModel&)>& read_text) {
    const train::LoadedModel loaded = train::load_model(run, context, options.dtype);
    const model::ModelConfig& config = loaded.model->config();
    const std::vector<uint32_t> tokens = read_text(loaded);
    const train::RunDirectory directory(run);
    std::filesystem::create_directories(directory.file("eval"));
    eval::SinkResult sinks;
    if (missing.cells) {
        const eval::CacheTableOptions table = table_options(config, options);
        const std::string name = std::filesystem::path(run).lexically_normal().filename().string();
        eval::CacheTableRow row = measure_table(context, name, *loaded.model, tokens, table);
        const ordered_json model{
            {"model", run}, {"step", loaded.step}, {"results", cells_json(row)}, {"sinks", eval::to_json(row.sinks)}};
        write_json_file(directory.file(kTableFile),
                        ordered_json{{"cache", table.cache}, {"models", ordered_json::array({model})}});
        sinks = std::move(row.sinks);
    } else {
        sinks = eval::evaluate_sinks(context, *loaded.model, tokens, sink_options(config));
    }
    eval::write_maps(directory.file(kMapsFile), sinks);
    write_json_file(directory.file(kSinksFile),
                    ordered_json{{"model", run}, {"step", loaded.step}, {"sinks", eval::to_json(sinks)}});
}

}  // namespace ballast::report
