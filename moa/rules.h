// The rules from which heads choose: alpha + beta N on a grid (MoA, section 4.1 and its code's defaults).
#pragma once

#include <cstdint>
#include <vector>

#include "infer/span_plan.h"

namespace ballast::moa {

/// Lengths are positions. The MoA project's defaults are shortest 2048, profiled 8192, longest 16384, with block and
/// sinks of 64.
struct RuleGrid {
    int64_t shortest = 0;  // profiled
    int64_t profiled = 0;  // the longest one
    int64_t longest = 0;   // longest text that a plan must accept
    int64_t block = 64, sinks = 64;
    int64_t alphas =
        11;  // evenly from -shortest to `profiled`, as whole blocks; 6 are the paper's, 1 is 0: spans that only grow
    int64_t betas = 9;  // evenly from 0 to 1; 1 is beta = 0: constant spans
};

/// In every layer all pairs of rules are tried, again and again. With so many, 131,000 pairs, a program of 32 layers
/// takes about a minute and half a GB; the default grids have 48 rules.
inline constexpr int64_t kMostRules = 512;

/// The rules that fit: at most the whole text at `profiled` and at `longest`, and room for the sinks and a block at
/// `shortest`. (The MoA project requires a cache above 0 there; on its grids both conditions keep the same rules.) Of
/// rules with equal caches at all of `lengths` the first is kept. Sorted by alpha, then beta. UserError when no
/// rule is left, or more than kMostRules are.
std::vector<infer::SpanRule> candidate_rules(const RuleGrid& grid, const std::vector<int64_t>& lengths);

}  // namespace ballast::moa
