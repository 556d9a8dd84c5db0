// A program as files of linear programming tools, and their answers.
#pragma once

#include <optional>
#include <string>

#include "moa/lagrangian.h"

namespace ballast::moa {

/// The program in CPLEX's LP format, without the rules that are not useful. Variables are x_<layer>_<head>_<rule>, 1
/// where the head has the rule, and z_<layer>_<rule>, 1 where the layer may use it. Losses are multiplied by
/// `loss_scale`.
std::string lp_text(const SpanProblem& problem, const Program& program, const std::vector<std::vector<bool>>& useful,
                    double loss_scale);

/// A choice as cbc's solution files list it, for -mipstart.
std::string solution_text(const SpanProblem& problem, const Choice& choice);

/// What cbc wrote.
struct SolverAnswer {
    bool infeasible = false;
    std::optional<Choice> choice;  // a rule for every head, or none
};
/// Reads a solution file: a line of status, then lines of {number, name, value, …}. Names that are none of ours, and
/// heads with no rule or two, leave no choice: a file that was cut is no error here.
SolverAnswer read_solution(const SpanProblem& problem, const std::string& text);

/// The lower bound on the objective that cbc's log ends with; none when it does not say.
std::optional<double> bound_in_log(const std::string& log);

}  // namespace ballast::moa
