// Solves a program without a library. Multipliers on the constraints separate the program into layers, and each layer
// tries every pair of rules. A subgradient method raises the lower bound, and a local search finds choices that satisfy
// the constraints.
#pragma once

#include <vector>

#include "moa/span_problem.h"

namespace ballast::moa {

struct LagrangianOptions {
    int iterations = 400;
    double gap = 0.01;  // stops when (value - bound) / |value| is below this
};

/// The known state of a program. When `found`, `choice` satisfies every constraint.
struct Solution {
    bool found = false;
    Choice choice;
    double value = std::numeric_limits<double>::infinity();   // loss at the objective's length
    double bound = -std::numeric_limits<double>::infinity();  // lower bound: no choice has a smaller value
    bool infeasible = false;                                  // proven

    /// (value - bound) / |value|; 0 when the optimum is proven, infinity when nothing was found.
    double gap() const;
};

/// The multipliers of make_constraints(), and for each layer the rules that a choice better than `value` could still
/// use.
struct LagrangianResult {
    Solution solution;
    std::vector<double> multipliers;
    std::vector<std::vector<bool>> useful;  // [layers][rules]
};

/// `known`: choices from other programs that may be feasible here. `multipliers`: the start (empty: 0).
LagrangianResult solve_lagrangian(const SpanProblem& problem, const Program& program, const LagrangianOptions& options,
                                  const std::vector<Choice>& known, const std::vector<double>& multipliers);

}  // namespace ballast::moa
