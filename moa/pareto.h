// Choices with a small loss at every length at once: the epsilon-constraint method (MoA, section 4.3).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moa/lagrangian.h"

namespace ballast::moa {

struct ParetoOptions {
    double gap = 0.01;
    int intervals = 4;     // into which the range of each other length's loss is divided
    double seconds = 300;  // limit for cbc over all programs together
    std::string cbc;       // its path; empty: the Lagrangian solver alone
};

/// A report on one solved program.
struct ProgramReport {
    size_t number = 0, of = 0;  // counted from 1
    Program program;
    Solution solution;
    bool used_cbc = false;
    double seconds = 0;
};

/// The programs for K lengths: each length alone, then each length with every combination of limits on the others: K +
/// K intervals^(K-1), which is 51 for three lengths and 4 intervals. Returns the choices that are not dominated, each
/// once, sorted by their loss at the first length. UserError when a budget cannot be satisfied.
std::vector<Choice> pareto_search(const SpanProblem& problem, const ParetoOptions& options,
                                  const std::function<void(const ProgramReport&)>& report);

/// The choices that no other loses less than, or as much as, at every length; each once, sorted by their losses.
std::vector<Choice> not_dominated(const SpanProblem& problem, const std::vector<Choice>& choices);

/// The number of programs that pareto_search() solves.
size_t count_programs(size_t lengths, int intervals);

}  // namespace ballast::moa
