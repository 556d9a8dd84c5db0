// A local search: from a choice that nearly satisfies the constraints to one that satisfies them, and then to a better
// one.
#pragma once

#include <optional>

#include "moa/layer_choice.h"

namespace ballast::moa {

/// Moves: a layer takes another pair of rules and each head the rule that is cheaper by `prices`, or one head takes the
/// other rule of its layer. First come moves that reduce the violation at the least loss, then moves that reduce the
/// loss and keep the constraints. Empty when the constraints cannot be satisfied in this way.
std::optional<Choice> search_feasible(const SpanProblem& problem, const Program& program,
                                      const std::vector<Constraint>& constraints, const std::vector<RulePair>& pairs,
                                      const std::vector<std::vector<double>>& prices, Choice start);

}  // namespace ballast::moa
