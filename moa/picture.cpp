#include "moa/picture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>

#include "base/columns.h"

namespace ballast::moa {

std::string plan_picture(const infer::SpanPlan& plan, int64_t N) {
    constexpr std::array kBars{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};  // the last alone is all of the text
    std::string out;
    for (int64_t l = 0; l < plan.layers; ++l) {
        out += fmt::format("layer {:>3}  ", l);
        int64_t total = 0;
        for (int64_t e = 0; e < plan.entries; ++e) {
            const int64_t rows = std::min(N, infer::cache_size(plan.rule(l, e), plan.block, plan.sinks, N));
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
