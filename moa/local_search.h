// From a choice that nearly keeps the constraints to one that keeps them, and from there to a better one.
#pragma once

#include <optional>

#include "moa/layer_choice.h"

namespace ballast::moa {

/// Moves: a layer takes another pair of rules, its heads the cheaper by `prices`, or one head takes the other rule of
/// its layer. First the moves that lower the violation at the least loss, then those that lower the loss and keep the
/// constraints. None when the constraints cannot be met this way.
std::optional<Choice> search_feasible(const SpanProblem& problem, const Program& program,
                                      const std::vector<Constraint>& constraints, const std::vector<RulePair>& pairs,
                                      const std::vector<std::vector<double>>& prices, Choice start);

}  // namespace ballast::moa
