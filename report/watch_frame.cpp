#include "report/watch_frame.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/columns.h"
#include "base/utf8_cut.h"
#include "base/progress.h"
#include "report/terminal_plot.h"

namespace ballast::report {
namespace {

constexpr int kSmallPlots = 3;
constexpr int kSmallHeight = 8;
constexpr int kRoomForSmall = 26;  // rows: below that the loss gets them all

const std::vector<double>& metric(const MetricsLog& log, std::string_view name) {
    const auto at = std::find(kMetricNames.begin(), kMetricNames.end(), name) - kMetricNames.begin();
    return log.values[static_cast<size_t>(at)];
}

/// The mean of the last finite values; NaN without any.
double recent(const std::vector<double>& values) {
    constexpr size_t kNewest = 20;
    double sum = 0, count = 0;
    for (size_t i = values.size() - std::min(values.size(), kNewest); i < values.size(); ++i)
        if (std::isfinite(values[i])) sum += values[i], ++count;
    return sum / count;
}

std::string number(double value, const char* format) {
    return std::isnan(value) ? "-" : fmt::format(fmt::runtime(format), value);
}

double last(const std::vector<double>& values) { return values.empty() ? NAN : values.back(); }

std::vector<std::string> table_line(const WatchedRun& run) {
    const MetricsLog& log = run.log;
    const double left = run.state == "running" ? seconds_left(run) : -1;
    const std::string step = log.step.empty() ? "-" : fmt::format("{:.0f}", log.step.back());
    const double rate = recent(metric(log, "tokens_per_second"));
    return {run.state,
            run.steps > 0 ? fmt::format("{}/{}", step, run.steps) : step,
            number(last(metric(log, "loss")), "{:.4f}"),
            number(last(log.validation_loss), "{:.4f}"),
            std::isnan(rate) ? "-" : format_count(rate),
            number(last(metric(log, "lr")), "{:.2e}"),
            number(last(metric(log, "grad_norm")), "{:.3f}"),
            left >= 0 ? format_duration(left) : "-"};
}

/// The end of `text`, where names of runs differ, in `columns` characters.
std::string shortened(const std::string& text, size_t columns) {
    if (display_columns(text) <= columns) return text;
    return "…" + std::string(last_characters(text, std::max<size_t>(columns, 1) - 1));  // 1: the ellipsis
}

/// Makes the first column give way until lines fit.
void fit_names(std::vector<std::vector<std::string>>& cells, size_t columns) {
    constexpr size_t kLeastName = 8;
    const std::string head = align_columns(cells);
    const size_t width = display_columns(head.substr(0, head.find('\n')));
    size_t longest = 0;
    for (const auto& line : cells) longest = std::max(longest, display_columns(line[0]));
    if (width <= columns) return;
    const size_t limit = std::max(longest - std::min(longest, width - columns), kLeastName);
    for (auto& line : cells) line[0] = shortened(line[0], limit);
}

std::vector<std::string> table(const std::vector<WatchedRun>& runs, const FrameSize& size) {
    std::vector<std::vector<std::string>> cells{
        {"run", "state", "step", "loss", "valid.", "tok/s", "lr", "norm", "left"}};
    for (const WatchedRun& run : runs) {
        cells.push_back(table_line(run));
        cells.back().insert(cells.back().begin(), run.label);
    }
    const bool lettered = !size.colour && runs.size() > 1;
    fit_names(cells, static_cast<size_t>(size.columns) - (lettered ? 2 : 0));
    for (size_t i = 0; lettered && i < cells.size(); ++i)
        cells[i][0] = (i == 0 ? "  " : letter_of(i - 1) + " ") + cells[i][0];
    std::istringstream text(align_columns(cells));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) {
        const bool head = lines.empty();
        line = std::string(first_characters(line, static_cast<size_t>(size.columns)));
        lines.push_back(head ? line : coloured(line, lines.size() - 1, size.colour));
    }
    return lines;
}

/// Five lines for one run; of several each has one and says whose it is.
std::vector<std::string> lines_of_ranks(const std::vector<WatchedRun>& runs, const FrameSize& size) {
    constexpr size_t kMost = 5;
    std::vector<std::string> lines;
    for (const WatchedRun& run : runs) {
        for (const RankLine& line : describe_ranks(run.ranks, runs.size() == 1 ? kMost : 1)) {
            const std::string text =
                (line.stands_out ? "! " : "  ") + (runs.size() == 1 ? "" : run.label + ", ") + line.text;
            const std::string shown(first_characters(text, static_cast<size_t>(size.columns)));
            lines.push_back(size.colour && line.stands_out ? "\x1b[1;31m" + shown + "\x1b[0m" : shown);
        }
    }
    return lines;
}

std::vector<PlotSeries> series_of(const std::vector<WatchedRun>& runs, std::string_view name) {
    std::vector<PlotSeries> out;
    for (size_t i = 0; i < runs.size(); ++i) {
        PlotSeries& series = out.emplace_back(PlotSeries{runs[i].log.step, metric(runs[i].log, name), {}, {}, i});
        if (name != "loss") continue;
        series.marks_x = runs[i].log.validation_step;
        series.marks_y = runs[i].log.validation_loss;
    }
    return out;
}

/// Plots side by side: each line padded to its plot's width, by what it shows rather than by its bytes.
std::vector<std::string> beside(const std::vector<std::vector<std::string>>& plots, int width) {
    std::vector<std::string> lines;
    for (size_t row = 0; row < kSmallHeight; ++row) {
        std::string& line = lines.emplace_back();
        for (size_t p = 0; p < plots.size(); ++p) {
            const std::string text = row < plots[p].size() ? plots[p][row] : "";
            line += text;
            size_t shown = 0;
            for (size_t i = 0; i < text.size(); ++i) {
                if (text[i] == '\x1b')
                    i = text.find('m', i);
                else
                    shown += is_utf8_continuation(text[i]) ? 0 : 1;
            }
            if (p + 1 < plots.size())
                line += std::string(static_cast<size_t>(width) - std::min(shown, static_cast<size_t>(width)), ' ');
        }
    }
    return lines;
}

}  // namespace

double seconds_left(const WatchedRun& run) {
    const MetricsLog& log = run.log;
    if (log.step.empty() || run.steps <= 0) return -1;
    const double rate = recent(metric(log, "tokens_per_second")), a_step = log.tokens.back() / log.step.back();
    const double left = (static_cast<double>(run.steps) - log.step.back()) * a_step / rate;
    return std::isfinite(left) ? std::max(left, 0.0) : -1;
}

std::vector<std::string> draw_frame(const std::vector<WatchedRun>& runs, const FrameSize& size) {
    std::vector<std::string> lines = table(runs, size);
    for (std::string& line : lines_of_ranks(runs, size)) lines.push_back(std::move(line));
    const int room = size.rows - static_cast<int>(lines.size());
    const int small_width = size.columns / kSmallPlots;
    const bool small =
        size.rows >= kRoomForSmall && room >= kSmallHeight + kLeastHeight + 4 && small_width >= kLeastWidth;
    const int height = small ? room - kSmallHeight : room;
    if (height >= kLeastHeight && size.columns >= kLeastWidth)
        for (std::string& line :
             draw_plot("loss (o validation) by step", series_of(runs, "loss"), {size.columns, height, size.colour}))
            lines.push_back(std::move(line));
    if (small) {
        std::vector<std::vector<std::string>> plots;
        for (const auto& [title, name] :
             {std::pair{"tokens/s", "tokens_per_second"}, {"learning rate", "lr"}, {"gradient norm", "grad_norm"}})
            plots.push_back(draw_plot(title, series_of(runs, name), {small_width - 1, kSmallHeight, size.colour}));
        for (std::string& line : beside(plots, small_width)) lines.push_back(std::move(line));
    }
    if (static_cast<int>(lines.size()) > size.rows) lines.resize(static_cast<size_t>(std::max(size.rows, 1)));
    return lines;
}

}  // namespace ballast::report
