#include "report/report.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/build_info.h"
#include "base/error.h"
#include "base/json_figure.h"
#include "base/path_labels.h"
#include "report/attention_maps.h"
#include "report/page.h"
#include "report/plans.h"

namespace ballast::report {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMapsBytes = 2'400'000;  // of all runs; base64 makes 3.2 MB of them

ordered_json config_json(const std::vector<RunData>& runs) {
    std::vector<ConfigFields> configs;
    for (const RunData& run : runs) configs.push_back(run.config);
    ordered_json rows = ordered_json::array();
    for (const ConfigRow& row : compare_configs(configs)) {
        ordered_json values = ordered_json::array();
        for (const auto& value : row.values) values.push_back(value ? ordered_json(*value) : ordered_json());
        rows.push_back({{"field", row.field}, {"values", values}, {"differs", row.differs}});
    }
    return rows;
}

/// The run's maps, when it has any; what is wrong with them becomes a note.
std::optional<AttentionMaps> maps_of(const RunData& run, ordered_json& notes) {
    const std::string path = (std::filesystem::path(run.folder) / kMapsFile).string();
    if (!std::filesystem::exists(path)) return std::nullopt;
    try {
        AttentionMaps maps = read_attention_maps(path);
        const auto bad =
            std::count_if(maps.weights.begin(), maps.weights.end(), [](float w) { return !std::isfinite(w); });
        if (bad > 0)
            notes.push_back(fmt::format("{}: {} of {} attention weights are not finite and are drawn as 0", path, bad,
                                        maps.weights.size()));
        return maps;
    } catch (const UserError& error) {
        notes.push_back(error.what());
        return std::nullopt;
    }
}

ordered_json logits_json(const PackedLogits& logits) {
    return {{"data", base64(logits.cells)}, {"low", json_figures(logits.low)}, {"high", json_figures(logits.high)}};
}

void add_maps(const std::vector<RunData>& runs, ordered_json& json) {
    std::vector<std::optional<AttentionMaps>> all;
    int64_t count = 0;
    for (size_t i = 0; i < runs.size(); ++i) {
        all.push_back(maps_of(runs[i], json[i]["notes"]));
        if (all.back())
            count += all.back()->layers * all.back()->heads * (all.back()->logits.empty() ? 1 : 2) *
                     (all.back()->causal ? 1 : 2);
    }
    const int64_t largest = map_side(count, kMapsBytes);
    for (size_t i = 0; i < runs.size(); ++i) {
        if (!all[i]) continue;
        const int64_t side = std::min(largest, all[i]->length);
        json[i]["maps"] = {{"layers", all[i]->layers}, {"heads", all[i]->heads},
                           {"length", all[i]->length}, {"side", side},
                           {"causal", all[i]->causal}, {"data", base64(pack_maps(*all[i], side))}};
        if (!all[i]->logits.empty()) json[i]["maps"]["logits"] = logits_json(pack_logits(*all[i], side));
    }
}

void require_run(const std::string& folder) {
    std::error_code error;
    if (!std::filesystem::is_directory(folder, error))
        throw UserError(fmt::format("no run at {}; give the folder that ballast train --out wrote", folder));
    if (is_model_folder(folder)) return;
    for (const char* name : {"metrics.jsonl", "status.json"})
        if (std::filesystem::exists(std::filesystem::path(folder) / name, error)) return;
    throw UserError(
        fmt::format("{} holds no run: neither metrics.jsonl nor status.json, nor a model's config.json", folder));
}

std::string title_of(const std::vector<RunData>& runs) {
    std::vector<std::string> labels;
    for (const RunData& run : runs) labels.push_back(run.label);
    return fmt::format("{}: Ballast report", fmt::join(labels, ", "));
}

}  // namespace

std::vector<RunData> read_runs(const std::vector<std::string>& folders, const std::vector<std::string>& tables) {
    for (const std::string& folder : folders) require_run(folder);
    const std::vector<std::string> labels = path_labels(folders);
    std::vector<RunData> runs;
    for (size_t i = 0; i < folders.size(); ++i) runs.push_back(read_run(folders[i], labels[i], tables));
    return runs;
}

std::string render(const std::vector<RunData>& runs, const std::vector<std::string>& plans) {
    ordered_json json = ordered_json::array();
    for (const RunData& run : runs) json.push_back(to_json(run));
    add_maps(runs, json);
    const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
    return make_page(title_of(runs), {{"created", fmt::format("{:%Y-%m-%d %H:%M}", fmt::localtime(now))},
                                      {"version", build_info().version},
                                      {"commit", build_info().commit},
                                      {"most_points", kMostPoints},
                                      {"runs", json},
                                      {"plans", plans_json(plans)},
                                      {"config", config_json(runs)}});
}

}  // namespace ballast::report
