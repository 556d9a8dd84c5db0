// One layer by itself: the rules of its heads, at most two different ones, of least cost.
#pragma once

#include <cstdint>
#include <vector>

#include "moa/span_problem.h"

namespace ballast::moa {

/// One or two rules of a layer; `first` alone where they are the same.
struct RulePair {
    int32_t first = 0, second = 0;
};

/// All pairs that a layer may have, single rules among them.
std::vector<RulePair> rule_pairs(const SpanProblem& problem);

/// The cost of every head's rule under multipliers: loss + sum of multiplier times coefficient, [layers][rules,
/// entries] (heads side by side, so that pairs are compared in vectors).
std::vector<std::vector<double>> priced(const SpanProblem& problem, const Program& program,
                                        const std::vector<Constraint>& constraints,
                                        const std::vector<double>& multipliers);

/// Every pair's least cost for a layer: the sum over heads of the cheaper of the two.
void pair_costs(const SpanProblem& problem, const std::vector<double>& prices, const std::vector<RulePair>& pairs,
                std::vector<double>& out);

/// The heads' rules of a layer under a pair.
void assign(const SpanProblem& problem, const std::vector<double>& prices, RulePair pair, int32_t* rules);

}  // namespace ballast::moa
