// One layer alone: the rules of its heads with the least cost, of which at most two differ.
#pragma once

#include <cstdint>
#include <vector>

#include "moa/span_problem.h"

namespace ballast::moa {

/// One or two rules of a layer; when they are the same, `first` alone.
struct RulePair {
    int32_t first = 0, second = 0;
};

/// All allowed pairs of a layer, including single rules.
std::vector<RulePair> rule_pairs(const SpanProblem& problem);

/// The cost of every head's rule under multipliers: loss + sum of multiplier times coefficient, [layers][rules,
/// entries] (heads are adjacent, so that pairs can be compared with SIMD vectors).
std::vector<std::vector<double>> priced(const SpanProblem& problem, const Program& program,
                                        const std::vector<Constraint>& constraints,
                                        const std::vector<double>& multipliers);

/// The least cost of a layer for every pair: the sum over heads of the cheaper of the two rules.
void pair_costs(const SpanProblem& problem, const std::vector<double>& prices, const std::vector<RulePair>& pairs,
                std::vector<double>& out);

/// The rules of a layer's heads under a pair.
void assign(const SpanProblem& problem, const std::vector<double>& prices, RulePair pair, int32_t* rules);

}  // namespace ballast::moa
