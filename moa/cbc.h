// The solver cbc (Debian and Ubuntu: coinor-cbc), run as a child process.
#pragma once

#include <string>

#include "moa/lagrangian.h"

namespace ballast::moa {

/// Its path, looked for where a shell would; empty when it is not installed.
std::string find_cbc();

struct CbcOptions {
    std::string program;  // find_cbc()
    double gap = 0.01;
    double seconds = 60;  // of the wall's clock, which cbc is told
    double grace = 5;     // more, for reading and writing its files; then it is killed
};

/// Goes on from what solve_lagrangian() knows: its choice is where cbc starts, its bound and useful rules make the
/// program smaller. The answer is checked here and never worse than `start`. RunError on Ctrl-C, with cbc ended;
/// UserError when cbc cannot be started.
Solution solve_cbc(const SpanProblem& problem, const Program& program, const LagrangianResult& start,
                   const CbcOptions& options);

}  // namespace ballast::moa
