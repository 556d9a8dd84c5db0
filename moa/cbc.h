// The solver cbc (Debian and Ubuntu: coinor-cbc), run as a child process.
#pragma once

#include <string>

#include "moa/lagrangian.h"

namespace ballast::moa {

/// The path of cbc, searched as a shell would; empty when it is not installed.
std::string find_cbc();

struct CbcOptions {
    std::string program;  // find_cbc()
    double gap = 0.01;
    double seconds = 60;  // wall-clock limit that cbc is given
    double grace = 5;     // additional seconds for reading and writing its files; then it is killed
};

/// Continues from the result of solve_lagrangian(): cbc starts from its choice, and its bound and useful rules make the
/// program smaller. The answer is checked here and is never worse than `start`. RunError on Ctrl-C, after cbc was
/// ended; UserError when cbc cannot be started.
Solution solve_cbc(const SpanProblem& problem, const Program& program, const LagrangianResult& start,
                   const CbcOptions& options);

}  // namespace ballast::moa
