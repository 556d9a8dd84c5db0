// Chooses among plans that lose alike: what a profile cannot tell apart is decided by texts longer than it saw.
#pragma once

#include <vector>

#include "moa/span_problem.h"

namespace ballast::moa {

/// What is assumed about the longest text, and which differences of a loss mean nothing.
struct Reach {
    std::vector<double> losses;  // [layers, entries, rules]
    std::vector<double> alike;   // by profiled length: losses that differ by less are the same
};

/// Of the choices that keep every constraint and lose no more than `choice` at any profiled length, but for what is
/// alike there, the one with the least assumed loss; found to `gap`, as solve_lagrangian() does, and never one with
/// more than `choice` has.
Choice further_reaching(const SpanProblem& problem, const Reach& reach, const Choice& choice, double gap);

}  // namespace ballast::moa
