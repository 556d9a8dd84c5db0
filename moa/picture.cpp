#include "moa/picture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>

#include "base/columns.h"

namespace ballast::moa {
namespace {

/// Positions that a head's cache holds.
int64_t rows_kept(const infer::SpanPlan& plan, int64_t layer, int64_t entry, int64_t N) {
    return std::min(N, infer::cache_size(plan.rule(layer, entry), plan.block, plan.sinks, N));
}

/// Even steps of lightness and of hue, from near white to dark blue, so that it reads in grey as well.
std::string shade(double share) {
    constexpr std::array<std::array<double, 3>, 5> kColours{
        {{242, 246, 250}, {178, 208, 232}, {99, 156, 206}, {41, 94, 158}, {12, 36, 92}}};
    const double at = std::clamp(share, 0.0, 1.0) * (kColours.size() - 1);
    const auto i = std::min(static_cast<size_t>(at), kColours.size() - 2);
    const auto mixed = [&](size_t k) {
        return std::lround(kColours[i][k] + (kColours[i + 1][k] - kColours[i][k]) * (at - static_cast<double>(i)));
    };
    return fmt::format("#{:02x}{:02x}{:02x}", mixed(0), mixed(1), mixed(2));
}

struct Canvas {
    std::string out;

    void text(double x, double y, const char* anchor, const std::string& words) {
        out += fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"{}\">{}</text>\n", x, y, anchor, words);
    }
    void cell(double x, double y, double width, double height, const std::string& colour, const std::string& title) {
        out += fmt::format(
            "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"><title>{}</title></rect>\n",
            x, y, width, height, colour, title);
    }
};

}  // namespace

std::vector<int64_t> lengths_to_show(const infer::SpanPlan& plan) {
    if (plan.figures.empty() && plan.range) return {plan.range->shortest, plan.range->longest};
    if (plan.figures.empty()) return {2048, 4096, 8192, 16384};
    std::vector<int64_t> lengths;
    for (const auto& figure : plan.figures) lengths.push_back(figure.length);
    return lengths;
}

std::string plan_svg(const infer::SpanPlan& plan, int64_t N) {
    constexpr double kLeft = 64, kTop = 52, kBottom = 84, kSide = 24, kGap = 2, kLegend = 240, kLegendHeight = 12;
    const double right = kLeft + kSide * static_cast<double>(plan.layers), width = std::max(right + 16, 560.0),
                 bottom = kTop + kSide * static_cast<double>(plan.entries);
    Canvas canvas;
    canvas.text(kLeft, 22, "start",
                fmt::format("Share of {} positions that each head keeps, {:.1f} % on average", N,
                            100 * infer::attention_density(plan, N)));
    for (int64_t l = 0; l < plan.layers; ++l) {
        const double x = kLeft + kSide * static_cast<double>(l);
        if (l % 5 == 0) canvas.text(x + kSide / 2, kTop - 8, "middle", std::to_string(l));
        for (int64_t e = 0; e < plan.entries; ++e) {
            const int64_t rows = rows_kept(plan, l, e, N);
            const double share = static_cast<double>(rows) / static_cast<double>(N);
            canvas.cell(x, kTop + kSide * static_cast<double>(e), kSide - kGap, kSide - kGap, shade(share),
                        fmt::format("layer {}, head {}: {} positions, {:.1f} %", l, e, rows, 100 * share));
        }
    }
    for (int64_t e = 0; e < plan.entries; ++e)
        canvas.text(kLeft - 8, kTop + kSide * (static_cast<double>(e) + 0.7), "end", fmt::format("head {}", e));
    canvas.text(right, kTop - 8, "start", " layer");
    constexpr int kSteps = 40;
    for (int i = 0; i < kSteps; ++i)
        canvas.cell(kLeft + kLegend * i / kSteps, bottom + 20, kLegend / kSteps + 0.5, kLegendHeight,
                    shade((i + 0.5) / kSteps), "");
    for (const int percent : {0, 25, 50, 75, 100})
        canvas.text(kLeft + kLegend * percent / 100, bottom + 20 + kLegendHeight + 16, "middle",
                    fmt::format("{} %", percent));
    return fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
        "height=\"{1:.0f}\" "
        "font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1c2330\">\n"
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{2}</svg>\n",
        width + 40, bottom + kBottom, canvas.out);
}

std::string plan_picture(const infer::SpanPlan& plan, int64_t N) {
    constexpr std::array kBars{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};  // the last alone is all of the text
    std::string out;
    for (int64_t l = 0; l < plan.layers; ++l) {
        out += fmt::format("layer {:>3}  ", l);
        int64_t total = 0;
        for (int64_t e = 0; e < plan.entries; ++e) {
            const int64_t rows = rows_kept(plan, l, e, N);
            out += kBars[static_cast<size_t>(7 * rows / N)];
            total += rows;
        }
        out += fmt::format("  {:.0f}\n", static_cast<double>(total) / static_cast<double>(plan.entries));
    }
    return out;
}

std::string density_table(const infer::SpanPlan& plan, int64_t kv_heads, const std::vector<int64_t>& lengths) {
    std::vector<std::vector<std::string>> rows{{"length", "mean cache", "attention", "memory"}};
    for (const int64_t N : lengths) {
        const double attention = infer::attention_density(plan, N);
        rows.push_back({fmt::format("{}", N), fmt::format("{:.1f}", attention * static_cast<double>(N)),
                        fmt::format("{:.4f}", attention),
                        fmt::format("{:.4f}", infer::memory_density(plan, kv_heads, N))});
    }
    return align_columns(rows);
}

}  // namespace ballast::moa
