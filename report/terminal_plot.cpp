#include "report/terminal_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/columns.h"
#include "base/progress.h"

namespace ballast::report {
namespace {

constexpr std::array kPalette{36, 33, 35, 32, 34, 31, 96, 93};  // foreground colours every terminal has
constexpr int kMargin = 10;                                     // columns left of the plot: a value and the axis

struct Range {
    double low = std::numeric_limits<double>::infinity(), high = -low;

    void add(double value) {
        if (!std::isfinite(value)) return;
        low = std::min(low, value);
        high = std::max(high, value);
    }
    bool empty() const { return !(low <= high); }
    /// One value alone still needs a place to stand.
    void widen() {
        if (low < high) return;
        const double by = low == 0 ? 1 : std::fabs(low) * 0.1;
        low -= by, high += by;
    }
    /// 0 at the low end, `cells` - 1 at the high one.
    int place(double value, int cells) const {
        return std::clamp(static_cast<int>(std::lround((value - low) / (high - low) * (cells - 1))), 0, cells - 1);
    }
};

/// A grid of characters with dots in them, two columns and four lines of dots each.
class Canvas {
  public:
    Canvas(int width, int height) : width_(width), height_(height), cells_(static_cast<size_t>(width * height)) {}

    int columns() const { return width_ * 2; }
    int lines() const { return height_ * 4; }

    /// (0, 0) is the lower left.
    void dot(int x, int y, size_t series) {
        static constexpr uint8_t kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
        const int from_top = lines() - 1 - y;
        Cell& cell = at(x / 2, from_top / 4);
        if (cell.series != series) cell.dots = 0;  // one character has one colour
        cell.dots = static_cast<uint8_t>(cell.dots | kBits[from_top % 4][x % 2]);
        cell.series = series;
    }
    void mark(int x, int y, size_t series) {
        Cell& cell = at(x / 2, (lines() - 1 - y) / 4);
        cell.marked = true;
        cell.series = series;
    }

    std::string line(int row, bool colour, bool letters) const {
        std::string out;
        for (int x = 0; x < width_; ++x) {
            const Cell& cell = cells_[static_cast<size_t>(row * width_ + x)];
            if (cell.dots == 0 && !cell.marked)
                out += ' ';
            else
                out += coloured(cell.marked ? "o"
                                : letters   ? letter_of(cell.series)
                                            : braille(cell.dots),
                                cell.series, colour);
        }
        out.erase(out.find_last_not_of(' ') + 1);
        return out;
    }

  private:
    struct Cell {
        uint8_t dots = 0;
        bool marked = false;
        size_t series = 0;
    };

    /// U+2800 and up, in UTF-8.
    static std::string braille(uint8_t dots) {
        return {static_cast<char>(0xE2), static_cast<char>(0xA0 | (dots >> 6)),
                static_cast<char>(0x80 | (dots & 0x3F))};
    }
    Cell& at(int x, int row) { return cells_[static_cast<size_t>(row * width_ + x)]; }

    int width_, height_;
    std::vector<Cell> cells_;
};

/// The mean of the finite values in every column of dots; NaN where values are but none is finite; columns without
/// values are left out.
std::vector<std::pair<int, double>> column_means(const PlotSeries& series, const Range& x, int columns) {
    std::vector<std::pair<int, double>> out;
    double sum = 0, count = 0;
    const auto close = [&] {
        if (!out.empty()) out.back().second = sum / count;  // 0 / 0 is NaN
        sum = count = 0;
    };
    for (size_t i = 0; i < series.x.size(); ++i) {
        const int column = x.place(series.x[i], columns);
        if (out.empty() || out.back().first != column) {
            close();
            out.emplace_back(column, 0);
        }
        if (std::isfinite(series.y[i])) sum += series.y[i], ++count;
    }
    close();
    return out;
}

void draw_curve(Canvas& canvas, const PlotSeries& series, size_t index, const Range& x, const Range& y) {
    bool drawing = false;
    int last_x = 0, last_y = 0;
    for (const auto& [column, value] : column_means(series, x, canvas.columns())) {
        if (!std::isfinite(value)) {
            drawing = false;
            continue;
        }
        const int height = y.place(value, canvas.lines());
        if (!drawing) last_x = column, last_y = height;
        const int steps = std::max({column - last_x, std::abs(height - last_y), 1});
        for (int i = 0; i <= steps; ++i)
            canvas.dot(last_x + (column - last_x) * i / steps, last_y + (height - last_y) * i / steps, index);
        last_x = column, last_y = height, drawing = true;
    }
    for (size_t i = 0; i < series.marks_x.size(); ++i)
        if (std::isfinite(series.marks_y[i]))
            canvas.mark(x.place(series.marks_x[i], canvas.columns()), y.place(series.marks_y[i], canvas.lines()),
                        index);
}

std::string value_text(double value) {
    return std::fabs(value) >= 1e4 ? format_count(value) : fmt::format("{:.3g}", value);
}

/// The x axis under the plot: a line, and its ends' values.
std::vector<std::string> x_axis(const Range& x, int width) {
    std::string line(kMargin - 2, ' ');
    line += "└";
    for (int i = 0; i < width; ++i) line += "─";
    const std::string first = format_count(x.low), last = format_count(x.high);
    const int gap = std::max(width - static_cast<int>(first.size() + last.size()), 1);
    return {line, std::string(kMargin - 1, ' ') + first + std::string(static_cast<size_t>(gap), ' ') + last};
}

}  // namespace

std::string letter_of(size_t which) { return std::string(1, static_cast<char>('a' + which % 26)); }

std::string coloured(const std::string& text, size_t which, bool colour) {
    return colour ? fmt::format("\x1b[{}m{}\x1b[0m", kPalette[which % kPalette.size()], text) : text;
}

std::vector<std::string> draw_plot(const std::string& title, const std::vector<PlotSeries>& series,
                                   const PlotOptions& options) {
    Range x, y;
    for (const PlotSeries& s : series) {
        for (size_t i = 0; i < s.x.size(); ++i) x.add(s.x[i]), y.add(s.y[i]);
        for (size_t i = 0; i < s.marks_x.size(); ++i) x.add(s.marks_x[i]), y.add(s.marks_y[i]);
    }
    if (x.empty() || y.empty()) return {title + ": nothing to draw yet"};
    y.widen();
    const Range shown = x;
    x.widen();
    const int width = std::max(options.width, kLeastWidth) - kMargin + 1,
              height = std::max(options.height, kLeastHeight) - 3;
    Canvas canvas(width, height);
    for (const PlotSeries& s : series) draw_curve(canvas, s, s.colour, x, y);
    const bool letters = !options.colour && series.size() > 1;
    std::vector<std::string> lines{title.substr(0, static_cast<size_t>(std::max(options.width, kLeastWidth)))};
    for (int row = 0; row < height; ++row) {
        const bool labelled = row == 0 || row == height - 1;
        const std::string value = labelled ? value_text(row == 0 ? y.high : y.low) : "";
        lines.push_back(fmt::format("{:>{}} {}{}", value, kMargin - 3, labelled ? "┤" : "│",
                                    canvas.line(row, options.colour, letters)));
    }
    for (std::string& line : x_axis(shown, width)) lines.push_back(std::move(line));
    return lines;
}

}  // namespace ballast::report
