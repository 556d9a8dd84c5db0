// A trained cell's figures, from the files of its run.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/atomic_file.h"
#include "base/json_figure.h"
#include "eval/cache_table.h"
#include "report/evaluations.h"
#include "report/metrics_log.h"
#include "sweep/summary.h"

namespace ballast::sweep {
namespace {

using nlohmann::ordered_json;

/// A step's loss is one batch's; the mean over the end of the run is less noisy.
double last_train_loss(const std::vector<double>& losses) {
    constexpr size_t kMost = 50;
    const size_t count = std::clamp<size_t>(losses.size() / 10, 1, kMost);
    return std::accumulate(losses.end() - static_cast<std::ptrdiff_t>(count), losses.end(), 0.0) /
           static_cast<double>(count);
}

void add_losses(const std::string& folder, CellFigures& out) {
    const std::filesystem::path path = std::filesystem::path(folder) / "metrics.jsonl";
    if (!std::filesystem::exists(path)) return;
    const report::MetricsLog log = report::parse_metrics(read_file(path.string()));
    if (!log.step.empty()) out.values.push_back({{"loss", "train", Better::lower}, last_train_loss(log.values[0])});
    if (log.validation_loss.empty()) return;
    out.values.push_back({{"loss", "validation", Better::lower}, log.validation_loss.back()});
    out.values.push_back({{"loss", "validation perplexity", Better::lower}, std::exp(log.validation_loss.back())});
}

void add_cache_table(const ordered_json& cells, int64_t cache, CellFigures& out) {
    for (const ordered_json& cell : cells) {
        const auto policy = cell["policy"].get<std::string>();
        const auto sinks = cell["sinks"].get<int64_t>(), of = cell["of_tokens"].get<int64_t>(),
                   tokens = cell["tokens"].get<int64_t>(), positions = cell["cache"].get<int64_t>();
        if (cache > 0 && positions > 0 && positions != cache) continue;
        const std::string name = eval::column_name(policy, sinks, positions);
        out.values.push_back({{"perplexity", name, Better::lower}, read_figure(cell["perplexity"])});
        if (tokens < of)
            out.notes.push_back(
                fmt::format("Perplexity, {}: scored on {} of {} tokens, so not to be compared with other columns.",
                            name, tokens, of));
    }
}

/// Means over layers.
void add_attention(const ordered_json& sinks, CellFigures& out) {
    if (sinks.is_null() || sinks["layers"].empty()) return;
    const auto positions = sinks["layers"][0]["share"].size();
    double first = 0, all = 0;
    for (const ordered_json& layer : sinks["layers"]) {
        const auto share = ballast::read_figures(layer["share"]);
        if (share.size() != positions || share.empty()) return;
        first += share[0] / static_cast<double>(sinks["layers"].size());
        all += std::accumulate(share.begin(), share.end(), 0.0) / static_cast<double>(sinks["layers"].size());
    }
    out.values.push_back({{"attention", "position 1", Better::neither}, first});
    out.values.push_back({{"attention", fmt::format("positions 1-{}", positions), Better::neither}, all});
    out.values.push_back({{"attention", "Sink_1 %", Better::neither}, 100 * read_figure(sinks["sink_rate"][0])});
    out.notes.push_back(
        fmt::format("Attention: share that the first positions of {} get, sink tokens counting as positions, "
                    "mean over layers, heads and queries; Sink_1: heads that give position 1 more than {:g} %.",
                    sinks["length"].get<int64_t>(), 100 * sinks["epsilon"].get<double>()));
}

}  // namespace

CellFigures read_figures(const Cell& cell, const std::string& folder, int64_t cache) {
    CellFigures out{cell.name, folder, cell.variant, cell.varied, {}, {}};
    add_losses(folder, out);
    const report::Evaluations have = report::read_evaluations(folder, {});
    add_cache_table(have.cells, cache, out);
    add_attention(have.sinks, out);
    return out;
}

}  // namespace ballast::sweep
