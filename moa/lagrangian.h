// Solves a program without any library: multipliers on its constraints make it fall apart into layers, each of which
// tries every pair of rules; a subgradient method raises the lower bound, and a local search makes choices that keep
// the constraints.
#pragma once

#include <vector>

#include "moa/span_problem.h"

namespace ballast::moa {

struct LagrangianOptions {
    int iterations = 400;
    double gap = 0.01;  // stops once (value - bound) / |value| is below
};

/// What is known of a program. `found` tells whether `choice` is one; it keeps every constraint then.
struct Solution {
    bool found = false;
    Choice choice;
    double value = std::numeric_limits<double>::infinity();   // loss at the objective's length
    double bound = -std::numeric_limits<double>::infinity();  // no choice has less
    bool infeasible = false;                                  // proven

    /// (value - bound) / |value|; 0 when the optimum is proven, infinity when nothing was found.
    double gap() const;
};

/// Multipliers of make_constraints(), and for each layer which rules a better choice than `value` could still use.
struct LagrangianResult {
    Solution solution;
    std::vector<double> multipliers;
    std::vector<std::vector<bool>> useful;  // [layers][rules]
};

/// `known`: choices of other programs, which may do here. `multipliers`: where to begin (empty: 0).
LagrangianResult solve_lagrangian(const SpanProblem& problem, const Program& program, const LagrangianOptions& options,
                                  const std::vector<Choice>& known, const std::vector<double>& multipliers);

}  // namespace ballast::moa
