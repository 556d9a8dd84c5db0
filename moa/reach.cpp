#include "moa/reach.h"

#include "moa/lagrangian.h"

namespace ballast::moa {

Choice further_reaching(const SpanProblem& problem, const Reach& reach, const Choice& choice, double gap) {
    const size_t lengths = problem.losses.size();
    SpanProblem further = problem;  // the assumed losses are those of one more length
    further.losses.push_back(reach.losses);
    Program program(lengths, lengths + 1);
    for (size_t k = 0; k < lengths; ++k) program.limits[k] = loss_of(problem, k, choice) + reach.alike[k];
    const Solution found = solve_lagrangian(further, program, {.gap = gap}, {choice}, {}).solution;
    return found.found ? found.choice : choice;
}

}  // namespace ballast::moa
