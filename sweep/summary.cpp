#include "sweep/summary.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/columns.h"
#include "base/json_figure.h"

namespace ballast::sweep {
namespace {

bool same(const Column& a, const Column& b) { return a.group == b.group && a.name == b.name; }

/// Where `column` stands in the summary; a new one comes last.
size_t column_index(std::vector<Column>& columns, const Column& column) {
    const auto found = std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return same(c, column); });
    if (found != columns.end()) return static_cast<size_t>(found - columns.begin());
    columns.push_back(column);
    return columns.size() - 1;
}

std::string number(double value) {
    const double size = std::fabs(value);
    return std::isnan(value)   ? "nan"  // never "-nan"
           : std::isinf(value) ? fmt::format("{}", value)
           : size >= 1e4       ? fmt::format("{:.3g}", value)
           : size >= 10        ? fmt::format("{:.2f}", value)
                               : fmt::format("{:.3f}", value);
}

std::string cell_text(const SummaryRow& row, size_t column, bool best) {
    const auto& value = row.values[column];
    if (!value) return "-";
    std::string text = number(value->mean);
    if (value->std) text += " ± " + number(*value->std);
    if (value->n < static_cast<int64_t>(row.cells.size())) text += fmt::format(" (n={})", value->n);
    return best ? "**" + text + "**" : text;
}

std::vector<std::string> groups_of(const Summary& summary) {
    std::vector<std::string> groups;
    for (const Column& column : summary.columns)
        if (std::find(groups.begin(), groups.end(), column.group) == groups.end()) groups.push_back(column.group);
    return groups;
}

std::string group_table(const Summary& summary, const std::string& group) {
    std::vector<std::vector<std::string>> lines{{group, "n"}};
    for (const SummaryRow& row : summary.rows) lines.push_back({row.variant, fmt::format("{}", row.cells.size())});
    for (size_t c = 0; c < summary.columns.size(); ++c) {
        if (summary.columns[c].group != group) continue;
        lines[0].push_back(summary.columns[c].name);
        const auto best = best_row(summary, c);
        for (size_t r = 0; r < summary.rows.size(); ++r)
            lines[r + 1].push_back(cell_text(summary.rows[r], c, best == r));
    }
    return markdown_table(lines);
}

}  // namespace

Statistic statistic(const std::vector<double>& values) {
    Statistic out;
    out.n = static_cast<int64_t>(values.size());
    const auto n = static_cast<double>(out.n);
    for (const double value : values) out.mean += value / n;
    if (out.n < 2) return out;
    double squares = 0;
    for (const double value : values) squares += (value - out.mean) * (value - out.mean);
    out.std = std::sqrt(squares / (n - 1));
    return out;
}

Summary summarise(const std::vector<CellFigures>& figures, int64_t cells) {
    Summary out;
    out.cells = cells;
    out.trained = static_cast<int64_t>(figures.size());
    for (const CellFigures& cell : figures) {
        for (const auto& [column, value] : cell.values) column_index(out.columns, column);
        for (const std::string& note : cell.notes)
            if (std::find(out.notes.begin(), out.notes.end(), note) == out.notes.end()) out.notes.push_back(note);
    }
    std::vector<std::vector<std::vector<double>>> values;  // [row][column][seed]
    for (const CellFigures& cell : figures) {
        auto row = std::find_if(out.rows.begin(), out.rows.end(),
                                [&](const SummaryRow& r) { return r.variant == cell.variant; });
        if (row == out.rows.end()) {
            row = out.rows.insert(row, {cell.variant, cell.varied, {}, {}});
            std::erase_if(row->fields, [](const auto& field) { return is_seed(field.first); });
            values.emplace_back(out.columns.size());
        }
        row->cells.push_back(cell.cell);
        for (const auto& [column, value] : cell.values)
            values[static_cast<size_t>(row - out.rows.begin())][column_index(out.columns, column)].push_back(value);
    }
    for (size_t r = 0; r < out.rows.size(); ++r)
        for (const auto& seeds : values[r])
            out.rows[r].values.push_back(seeds.empty() ? std::nullopt : std::optional(statistic(seeds)));
    return out;
}

std::optional<size_t> best_row(const Summary& summary, size_t column) {
    if (summary.columns[column].better == Better::neither) return std::nullopt;
    std::optional<size_t> best;
    size_t candidates = 0;
    for (size_t r = 0; r < summary.rows.size(); ++r) {
        const auto& value = summary.rows[r].values[column];
        if (!value || std::isnan(value->mean)) continue;
        ++candidates;
        if (!best || value->mean < summary.rows[*best].values[column]->mean) best = r;
    }
    return candidates > 1 ? best : std::nullopt;
}

std::vector<size_t> runs_to_show(const std::vector<Cell>& cells, const std::vector<size_t>& trained, size_t most) {
    if (trained.size() <= most) return trained;
    std::vector<size_t> shown;
    for (const size_t i : trained) {
        const auto same = [&](size_t other) { return cells[other].variant == cells[i].variant; };
        if (shown.size() < most && std::none_of(shown.begin(), shown.end(), same)) shown.push_back(i);
    }
    return shown;
}

std::string to_markdown(const Summary& summary) {
    std::string out;
    if (summary.trained < summary.cells)
        out += fmt::format("Incomplete: {} of {} cells are trained.\n\n", summary.trained, summary.cells);
    for (const std::string& group : groups_of(summary)) out += group_table(summary, group) + "\n";
    out +=
        "Mean ± sample standard deviation over n seeds; bold: the lowest mean of a column. Train loss: mean over the "
        "last tenth of the steps, at most 50.\n";
    for (const std::string& note : summary.notes) out += note + "\n";
    return out;
}

nlohmann::ordered_json to_json(const Summary& summary) {
    using nlohmann::ordered_json;
    ordered_json columns = ordered_json::array(), rows = ordered_json::array();
    for (size_t c = 0; c < summary.columns.size(); ++c) {
        const auto best = best_row(summary, c);
        columns.push_back({{"group", summary.columns[c].group},
                           {"name", summary.columns[c].name},
                           {"best", best ? ordered_json(summary.rows[*best].variant) : ordered_json()}});
    }
    for (const SummaryRow& row : summary.rows) {
        ordered_json fields = ordered_json::object(), values = ordered_json::array();
        for (const auto& [field, value] : row.fields) fields[field] = value;
        for (const auto& value : row.values) {
            if (!value)
                values.push_back(nullptr);
            else
                values.push_back({{"mean", json_figure(value->mean)},
                                  {"std", value->std ? json_figure(*value->std) : ordered_json()},
                                  {"n", value->n}});
        }
        rows.push_back({{"variant", row.variant}, {"fields", fields}, {"cells", row.cells}, {"values", values}});
    }
    return {{"cells", summary.cells},
            {"trained", summary.trained},
            {"columns", columns},
            {"rows", rows},
            {"notes", summary.notes}};
}

}  // namespace ballast::sweep
