// The assignment of rules to heads: the mixed-integer program of MoA (section 4.3, equation 8), and the losses of a
// choice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace ballast::moa {

/// The positions that rules keep at one length, and the allowed mean.
struct LengthBudget {
    int64_t length = 0;         // N
    std::vector<int64_t> rows;  // by rule: positions kept, at most N
    double density = 1;         // upper limit of the mean over heads, as a share of N
};

/// `entries` heads in each of `layers` layers choose one of `rules` rules. `losses` are the costs of masking, by
/// profiled length: [layers, entries, rules].
struct SpanProblem {
    int64_t layers = 0, entries = 0, rules = 0;
    std::vector<std::vector<double>> losses;
    std::vector<LengthBudget> budgets;
    double least_share = 0;       // heads must also keep this share of each budget (0.9 in the MoA project's code)
    int64_t rules_per_layer = 2;  // 1 or 2 different ones

    int64_t heads() const { return layers * entries; }
    double loss(std::size_t length, int64_t layer, int64_t entry, int64_t rule) const {
        return losses[length][static_cast<size_t>((layer * entries + entry) * rules + rule)];
    }
    double most_rows(const LengthBudget& budget) const {
        return budget.density * static_cast<double>(budget.length * heads());
    }
};

/// A rule for every head, [layers, entries].
using Choice = std::vector<int32_t>;

/// One program: minimise the loss at one length while the losses at other lengths stay within limits.
struct Program {
    std::size_t objective = 0;   // index of a profiled length
    std::vector<double> limits;  // by profiled length; infinity: no limit

    Program(std::size_t objective_length, std::size_t lengths)
        : objective(objective_length), limits(lengths, std::numeric_limits<double>::infinity()) {}
};

double loss_of(const SpanProblem& problem, std::size_t length, const Choice& choice);
/// The losses of a choice, by profiled length.
std::vector<double> losses_of(const SpanProblem& problem, const Choice& choice);
/// The mean kept share at one of the problem's budgets.
double density_of(const SpanProblem& problem, const LengthBudget& budget, const Choice& choice);

/// True when a choice satisfies every constraint: budgets, their least share, limits, and the number of rules per
/// layer.
bool feasible(const SpanProblem& problem, const Program& program, const Choice& choice);

/// UserError, with the length and the available densities, when no single rule is within a budget.
void check_budgets(const SpanProblem& problem);

/// A constraint: sum over heads of `coefficient` of their rule <= `limit`. Shared by the solvers.
struct Constraint {
    std::vector<double> coefficients;  // [layers, entries, rules], or [rules] where all heads have the same
    double limit = 0;
    double scale = 1;  // the unit in which excesses of constraints are compared, > 0: the limit's size

    double of(const SpanProblem& problem, int64_t layer, int64_t entry, int64_t rule) const {
        const bool by_head = coefficients.size() != static_cast<size_t>(problem.rules);
        return coefficients[static_cast<size_t>(by_head ? (layer * problem.entries + entry) * problem.rules + rule
                                                        : rule)];
    }
};
/// Budgets first (their coefficients are rows), then least shares, then limits.
std::vector<Constraint> make_constraints(const SpanProblem& problem, const Program& program);
double constraint_total(const SpanProblem& problem, const Constraint& constraint, const Choice& choice);
/// A tolerance for rounding: totals that exceed the limit by less count as within it.
double constraint_slack(const Constraint& constraint);

/// Every solver's loop calls it. RunError on Ctrl-C.
void stop_when_interrupted();

}  // namespace ballast::moa
