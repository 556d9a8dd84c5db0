// The figures of a trained cell, from the files of its run.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <numeric>

#include "base/atomic_file.h"
#include "eval/figures.h"
#include "report/evaluations.h"
#include "report/metrics_log.h"
#include "sweep/summary.h"

namespace ballast::sweep {
namespace {

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

/// Measured under another cache size than the sweep's `cache` (0: any).
bool has_other_cache(const eval::Measurement& measurement, int64_t cache) {
    const auto* cell = std::get_if<eval::StreamingResult>(&measurement.metrics);
    const int64_t positions = cell ? eval::total_positions(cell->policy) : 0;
    return cache > 0 && positions > 0 && positions != cache;
}

/// Two values of one cell would be taken for those of two seeds: the first one counts.
void add(const eval::Figure& figure, CellFigures& out) {
    const auto same = [&](const auto& value) {
        return value.first.group == figure.group && value.first.name == figure.name;
    };
    if (std::any_of(out.values.begin(), out.values.end(), same))
        out.notes.push_back(
            fmt::format("{}, {}: measured more than once under this name on {}; the first value counts.", figure.group,
                        figure.name, out.cell));
    else
        out.values.push_back(
            {{figure.group, figure.name, figure.lower_is_better ? Better::lower : Better::neither}, figure.value});
}

void add_measurements(const std::string& folder, int64_t cache, CellFigures& out) {
    int64_t left_out = 0;
    for (const eval::Measurement& measurement : report::read_evaluations(folder, {}).measurements) {
        if (has_other_cache(measurement, cache)) {
            ++left_out;
            continue;
        }
        const eval::Figures measured = eval::figures(measurement);
        for (const eval::Figure& figure : measured.values) add(figure, out);
        out.notes.insert(out.notes.end(), measured.notes.begin(), measured.notes.end());
    }
    if (left_out > 0)
        out.notes.push_back(fmt::format("{}: {} perplexit{} under other caches than the sweep's {} positions left out.",
                                        out.cell, left_out, left_out == 1 ? "y" : "ies", cache));
}

}  // namespace

CellFigures read_figures(const Cell& cell, const std::string& folder, int64_t cache) {
    CellFigures out{cell.name, folder, cell.variant, cell.varied, {}, {}};
    add_losses(folder, out);
    add_measurements(folder, cache, out);
    return out;
}

}  // namespace ballast::sweep
