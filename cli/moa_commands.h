// The commands of `ballast moa`.
#pragma once

#include <string>
#include <vector>

#include "cli/command.h"
#include "moa/optimise.h"

namespace ballast {

void add_moa_optimise(Command parent);
void add_moa_show(Command parent);

/// Options of optimise that search has too.
struct MoaOptimiseOptions {
    moa::OptimiseOptions options;
    double gap_percent = 1;
    std::string measure;  // empty: the default
    std::string solver = "auto";

    void add_to(Command command);
    /// The UserErrors of run() that need no profile's values, only its shape.
    void check(const moa::Profile& profile);
    /// Runs the search with a progress bar and prints a line a program; the Pareto set.
    std::vector<moa::PlanCandidate> run(const moa::Profile& profile);

  private:
    /// Names to settings. UserError where the solver that was asked for is missing.
    void resolve();
};

}  // namespace ballast
