#include "moa/rules.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <set>

#include "base/error.h"

namespace ballast::moa {
namespace {

/// Evenly spaced, each at the nearest whole number of blocks: plans keep whole blocks.
std::vector<double> alphas_of(const RuleGrid& grid) {
    if (grid.alphas == 1) return {0};
    const auto block = static_cast<double>(grid.block), width = static_cast<double>(grid.shortest + grid.profiled);
    const auto at = [&](int64_t i) {
        const double place = width * static_cast<double>(i) / static_cast<double>(grid.alphas - 1);
        return block * std::round((place - static_cast<double>(grid.shortest)) / block);
    };
    std::vector<double> out;
    for (int64_t i = 0; i < grid.alphas; ++i) out.push_back(at(i));
    return out;
}

}  // namespace

std::vector<infer::SpanRule> candidate_rules(const RuleGrid& grid, const std::vector<int64_t>& lengths) {
    require(grid.alphas >= 1 && grid.betas >= 1, "a grid without rules");
    std::vector<infer::SpanRule> out;
    std::set<std::vector<int64_t>> seen;
    for (const double alpha : alphas_of(grid))
        for (int64_t i = 0; i < grid.betas; ++i) {
            const infer::SpanRule rule{
                alpha, grid.betas == 1 ? 0.0 : static_cast<double>(i) / static_cast<double>(grid.betas - 1)};
            const auto size = [&](int64_t N) { return rule.alpha + rule.beta * static_cast<double>(N); };
            if (size(grid.profiled) > static_cast<double>(grid.profiled) ||
                size(grid.longest) > static_cast<double>(grid.longest) ||
                size(grid.shortest) < static_cast<double>(grid.sinks + grid.block))
                continue;
            std::vector<int64_t> caches;
            for (const int64_t N : lengths)
                caches.push_back(std::min(infer::cache_size(rule, grid.block, grid.sinks, N), N));
            if (seen.insert(caches).second) out.push_back(rule);
        }
    if (std::ssize(out) > kMostRules)
        throw UserError(
            fmt::format("--alphas {} and --betas {} give {} rules at these lengths, and at most {} can be searched; "
                        "choose fewer",
                        grid.alphas, grid.betas, out.size(), kMostRules));
    if (out.empty())
        throw UserError(fmt::format(
            "no rule keeps {} sinks and a block of {} at length {}; choose longer lengths or a smaller block",
            grid.sinks, grid.block, grid.shortest));
    return out;
}

}  // namespace ballast::moa
