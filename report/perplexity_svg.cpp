#include "report/perplexity_svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <set>

#include "base/columns.h"
#include "base/error.h"
#include "report/page.h"

namespace ballast::report {
namespace {

using eval::StreamingResult;

constexpr double kWidth = 920, kHeight = 440, kLeft = 64, kRight = 130, kTop = 62, kBottom = 52, kLabelHeight = 15;

bool is_recompute(const StreamingResult& cell) { return std::holds_alternative<eval::Recompute>(cell.policy); }
bool is_dense(const StreamingResult& cell) { return !is_recompute(cell) && eval::total_positions(cell.policy) == 0; }
bool is_plan(const StreamingResult& cell) { return !cell.plan.empty(); }
bool is_cache(const StreamingResult& cell) { return !is_recompute(cell) && !is_dense(cell) && !is_plan(cell); }

struct Point {
    double position = 0, perplexity = 0;
};

/// Each bucket's perplexity at its middle.
std::vector<Point> points_of(const StreamingResult& cell) {
    std::vector<Point> out;
    for (size_t i = 0; i < cell.curve.size(); ++i) {
        const int64_t begin = cell.curve[i].position,
                      end = i + 1 < cell.curve.size() ? cell.curve[i + 1].position : cell.of_tokens;
        out.push_back({static_cast<double>(begin + end) / 2, std::exp(cell.curve[i].loss)});
    }
    return out;
}

struct Style {
    std::string colour, dash;
};

/// Windows are red, sinks green to violet by how many, further cache sizes dashed.
std::vector<Style> styles_of(const std::vector<StreamingResult>& cells) {
    static constexpr std::array<const char*, 4> kSinks{"#44359b", "#2a6fa8", "#1f9a8a", "#6abf69"};
    static constexpr std::array<const char*, 3> kDashes{"", "7 3", "2 3"};
    std::set<int64_t> sinks, sizes;
    for (const StreamingResult& cell : cells)
        if (is_cache(cell)) {
            sizes.insert(eval::total_positions(cell.policy));
            if (eval::sink_positions(cell.policy) > 0) sinks.insert(eval::sink_positions(cell.policy));
        }
    const auto rank = [](const std::set<int64_t>& all, int64_t value) {
        return static_cast<size_t>(std::distance(all.begin(), all.find(value)));
    };
    std::vector<Style> out;
    for (const StreamingResult& cell : cells) {
        if (is_dense(cell))
            out.push_back({"#1c2330", "7 3"});
        else if (is_recompute(cell))
            out.push_back({"#8a93a1", "2 3"});
        else {
            const int64_t kept = eval::sink_positions(cell.policy);
            out.push_back({kept == 0 ? "#d1495b" : kSinks[rank(sinks, kept) % kSinks.size()],
                           kDashes[rank(sizes, eval::total_positions(cell.policy)) % kDashes.size()]});
        }
    }
    return out;
}

/// Round values of a logarithmic range: 1, 2, 5 of each decade, or more where the range is small.
std::vector<double> log_ticks(double low, double high) {
    const std::vector<double> coarse{1, 2, 5}, fine{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8};
    std::vector<double> out;
    for (int decade = static_cast<int>(std::floor(std::log10(low))); decade <= std::log10(high); ++decade)
        for (const double m : high / low > 20 ? coarse : fine)
            if (const double tick = m * std::pow(10.0, decade); tick >= low && tick <= high) out.push_back(tick);
    return out;
}

std::vector<double> even_ticks(double high) {
    const double power = std::pow(10.0, std::floor(std::log10(high / 6)));
    const double rough = high / 6 / power, step = (rough > 5 ? 10 : rough > 2 ? 5 : rough > 1 ? 2 : 1) * power;
    std::vector<double> out;
    for (double tick = 0; tick <= high; tick += step) out.push_back(tick);
    return out;
}

std::string position_text(double position) {
    if (position >= 1e6) return fmt::format("{:g}M", position / 1e6);
    return position >= 1e3 ? fmt::format("{:g}k", position / 1e3) : fmt::format("{:g}", position);
}

class Drawing {
  public:
    Drawing(const std::vector<StreamingResult>& cells, const PerplexityPlot& plot) {
        for (const StreamingResult& cell : cells) {
            curves_.push_back(points_of(cell));
            for (const Point& point : curves_.back()) {
                if (!std::isfinite(point.perplexity)) continue;
                low_ = std::min(low_, point.perplexity);
                high_ = std::max(high_, point.perplexity);
                end_ = std::max(end_, point.position);
            }
            end_ = std::max(end_, static_cast<double>(cell.of_tokens));
        }
        if (low_ > high_) throw UserError("no cell has a finite perplexity along the text; there is nothing to draw");
        low_ /= 1.06, high_ *= 1.06;
        begin(plot);
        axes(plot.context);
        const std::vector<Style> styles = styles_of(cells);
        for (size_t i = 0; i < cells.size(); ++i) curve(curves_[i], styles[i]);
        labels(cells, styles);
        svg_ += "</svg>\n";
    }

    std::string take() { return std::move(svg_); }

  private:
    double x(double position) const { return kLeft + position / end_ * (kWidth - kLeft - kRight); }
    double y(double perplexity) const {
        return kHeight - kBottom - std::log(perplexity / low_) / std::log(high_ / low_) * (kHeight - kTop - kBottom);
    }

    void text(double at_x, double at_y, const std::string& what, const std::string& attributes) {
        svg_ +=
            fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", at_x, at_y, attributes, html_escaped(what));
    }
    void line(double x1, double y1, double x2, double y2, const char* attributes) {
        svg_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x1, y1, x2, y2,
                            attributes);
    }

    void begin(const PerplexityPlot& plot) {
        svg_ = fmt::format(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" "
            "font-size=\"12\">\n<rect width=\"{}\" height=\"{}\" fill=\"white\"/>\n",
            kWidth, kHeight, kWidth, kHeight);
        text(kLeft, 26, plot.title, "font-size=\"16\" font-weight=\"600\"");
        text(kLeft, 45, plot.note, "fill=\"#555\"");
    }

    void axes(int64_t context) {
        for (const double tick : log_ticks(low_, high_)) {
            line(kLeft, y(tick), kWidth - kRight, y(tick), "stroke=\"#e3e6ea\"");
            text(kLeft - 8, y(tick) + 4, fmt::format("{:g}", tick), "text-anchor=\"end\" fill=\"#555\"");
        }
        for (const double tick : even_ticks(end_))
            text(x(tick), kHeight - kBottom + 18, position_text(tick), "text-anchor=\"middle\" fill=\"#555\"");
        line(kLeft, kHeight - kBottom, kWidth - kRight, kHeight - kBottom, "stroke=\"#8a93a1\"");
        text((kLeft + kWidth - kRight) / 2, kHeight - 12, "position in the text (tokens)",
             "text-anchor=\"middle\" fill=\"#555\"");
        text(0, 0, "perplexity",
             fmt::format("transform=\"translate(18,{:.1f}) rotate(-90)\" text-anchor=\"middle\" fill=\"#555\"",
                         (kTop + kHeight - kBottom) / 2));
        if (context <= 0 || static_cast<double>(context) >= end_) return;
        const double at = x(static_cast<double>(context));
        line(at, kTop, at, kHeight - kBottom, "stroke=\"#8a93a1\" stroke-dasharray=\"3 3\"");
        text(at + 5, kTop + 10, "trained context", "fill=\"#555\"");
    }

    void curve(const std::vector<Point>& points, const Style& style) {
        std::string path;
        bool open = false;
        for (const Point& point : points) {
            const bool finite = std::isfinite(point.perplexity);
            if (finite)
                path += fmt::format("{}{:.1f},{:.1f}", open ? "L" : "M", x(point.position), y(point.perplexity));
            open = finite;
        }
        if (path.empty()) return;
        svg_ += fmt::format(
            "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\"{}/>\n", path,
            style.colour, style.dash.empty() ? "" : fmt::format(" stroke-dasharray=\"{}\"", style.dash));
    }

    /// Names at the curves' ends, moved apart.
    void labels(const std::vector<StreamingResult>& cells, const std::vector<Style>& styles) {
        struct Label {
            double at;
            size_t cell;
        };
        std::vector<Label> all;
        for (size_t i = 0; i < cells.size(); ++i) {
            const auto last = std::find_if(curves_[i].rbegin(), curves_[i].rend(),
                                           [](const Point& point) { return std::isfinite(point.perplexity); });
            all.push_back({last == curves_[i].rend() ? kTop : y(last->perplexity), i});
        }
        std::stable_sort(all.begin(), all.end(), [](const Label& a, const Label& b) { return a.at < b.at; });
        for (size_t i = 1; i < all.size(); ++i) all[i].at = std::max(all[i].at, all[i - 1].at + kLabelHeight);
        double floor = kHeight - kBottom;  // and up again where they ran out below
        for (size_t i = all.size(); i-- > 0; floor = all[i].at - kLabelHeight) all[i].at = std::min(all[i].at, floor);
        for (const Label& label : all)
            text(kWidth - kRight + 8, label.at + 4, label_of(cells[label.cell]),
                 fmt::format("fill=\"{}\" font-weight=\"600\"", styles[label.cell].colour));
    }

    std::vector<std::vector<Point>> curves_;
    double low_ = std::numeric_limits<double>::infinity(), high_ = 0, end_ = 1;
    std::string svg_;
};

bool is_subset(const StreamingResult& cell) { return cell.tokens < cell.of_tokens; }

std::string cell_text(const StreamingResult& cell) {
    return eval::perplexity_text(cell.perplexity) + (is_subset(cell) ? "*" : "");
}

template <class Wanted>
std::string text_of(const std::vector<StreamingResult>& cells, const Wanted& wanted) {
    const auto found = std::find_if(cells.begin(), cells.end(), wanted);
    return found == cells.end() ? "–" : cell_text(*found);
}

}  // namespace

std::string perplexity_svg(const std::vector<StreamingResult>& cells, const PerplexityPlot& plot) {
    return Drawing(cells, plot).take();
}

std::string perplexity_markdown(const std::vector<StreamingResult>& cells) {
    std::set<int64_t> sizes, sinks;
    for (const StreamingResult& cell : cells) {
        if (!is_dense(cell) && !is_plan(cell)) sizes.insert(eval::total_positions(cell.policy));
        if (is_cache(cell)) sinks.insert(eval::sink_positions(cell.policy));
    }
    if (sizes.empty()) sizes.insert(0);  // dense alone
    std::vector<std::vector<std::string>> lines{{"total cache"}};
    for (const int64_t kept : sinks) lines[0].push_back(fmt::format("{} + y", kept));
    lines[0].insert(lines[0].end(), {"recompute", "dense"});
    for (const int64_t size : sizes) {
        auto& line = lines.emplace_back(1, size > 0 ? fmt::format("{}", size) : "–");
        for (const int64_t kept : sinks)
            line.push_back(text_of(cells, [&](const StreamingResult& cell) {
                return is_cache(cell) && eval::total_positions(cell.policy) == size &&
                       eval::sink_positions(cell.policy) == kept;
            }));
        line.push_back(text_of(cells, [&](const StreamingResult& cell) {
            return is_recompute(cell) && eval::total_positions(cell.policy) == size;
        }));
        line.push_back(text_of(cells, [](const StreamingResult& cell) { return is_dense(cell); }));
    }
    std::string out = markdown_table(lines);
    for (const StreamingResult& cell : cells)
        if (is_plan(cell))
            out += fmt::format("\n{}: {} with {:.4f} of the dense cache's memory", label_of(cell), cell_text(cell),
                               cell.density);
    for (const StreamingResult& cell : cells)
        if (is_subset(cell))
            out += fmt::format("\n\\* {}: scored on {} of {} tokens", label_of(cell), cell.tokens, cell.of_tokens);
    for (const StreamingResult& cell : cells)
        if (cell.non_finite > 0) out += fmt::format("\n{}: {}", label_of(cell), eval::non_finite_text(cell));
    return out.ends_with('\n') ? out : out + "\n";
}

}  // namespace ballast::report
