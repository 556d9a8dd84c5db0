// Programs as files for linear programming tools, and the tools' answers.
#pragma once

#include <optional>
#include <string>

#include "moa/lagrangian.h"

namespace ballast::moa {

/// The program in CPLEX's LP format, with only the useful rules. Variable x_<layer>_<head>_<rule> is 1 where the head
/// has the rule; z_<layer>_<rule> is 1 where the layer may use it. Losses are multiplied by `loss_scale`.
std::string lp_text(const SpanProblem& problem, const Program& program, const std::vector<std::vector<bool>>& useful,
                    double loss_scale);

/// A choice in the format of cbc's solution files, for -mipstart.
std::string solution_text(const SpanProblem& problem, const Choice& choice);

/// The content of cbc's solution file.
struct SolverAnswer {
    bool infeasible = false;
    std::optional<Choice> choice;  // a rule for every head, or none
};
/// Reads a solution file: a status line, then lines of {number, name, value, …}. Unknown names, and heads with no rule
/// or with two, give no choice: a truncated file is not an error here.
SolverAnswer read_solution(const SpanProblem& problem, const std::string& text);

/// The lower bound on the objective at the end of cbc's log; empty when the log has none.
std::optional<double> bound_in_log(const std::string& log);

}  // namespace ballast::moa
