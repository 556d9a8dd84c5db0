#include "moa/span_problem.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <set>

#include "base/error.h"
#include "base/interrupt.h"

namespace ballast::moa {
namespace {

int64_t rows_of(const SpanProblem& problem, const LengthBudget& budget, const Choice& choice) {
    require(static_cast<int64_t>(choice.size()) == problem.heads(), "a rule for every head");
    int64_t rows = 0;
    for (const int32_t rule : choice) rows += budget.rows[static_cast<size_t>(rule)];
    return rows;
}

bool few_rules_a_layer(const SpanProblem& problem, const Choice& choice) {
    for (int64_t l = 0; l < problem.layers; ++l) {
        const auto first = choice.begin() + l * problem.entries;
        if (std::ssize(std::set<int32_t>(first, first + problem.entries)) > problem.rules_per_layer) return false;
    }
    return true;
}

/// The most that a choice could take of a constraint.
double largest_total(const SpanProblem& problem, const Constraint& constraint) {
    double total = 0;
    for (int64_t l = 0; l < problem.layers; ++l)
        for (int64_t e = 0; e < problem.entries; ++e) {
            double most = 0;
            for (int64_t r = 0; r < problem.rules; ++r)
                most = std::max(most, std::abs(constraint.of(problem, l, e, r)));
            total += most;
        }
    return total;
}

/// A limit of 0, or one that rounding made next to 0, is no unit: beside it every excess would be infinite.
double scale_of(const SpanProblem& problem, const Constraint& constraint) {
    constexpr double kNextToNothing = 1e-12;
    const double size = std::abs(constraint.limit), most = largest_total(problem, constraint);
    if (size > kNextToNothing * most) return size;
    return most > 0 ? most : 1;
}

}  // namespace

double loss_of(const SpanProblem& problem, size_t length, const Choice& choice) {
    double total = 0;
    for (int64_t i = 0; i < problem.heads(); ++i)
        total += problem.losses[length][static_cast<size_t>(i * problem.rules + choice[static_cast<size_t>(i)])];
    return total;
}

std::vector<double> losses_of(const SpanProblem& problem, const Choice& choice) {
    std::vector<double> out;
    for (size_t k = 0; k < problem.losses.size(); ++k) out.push_back(loss_of(problem, k, choice));
    return out;
}

double density_of(const SpanProblem& problem, const LengthBudget& budget, const Choice& choice) {
    return static_cast<double>(rows_of(problem, budget, choice)) / static_cast<double>(budget.length * problem.heads());
}

std::vector<Constraint> make_constraints(const SpanProblem& problem, const Program& program) {
    std::vector<Constraint> out;
    const auto add_rows = [&](const LengthBudget& budget, double sign, double limit) {
        Constraint& constraint = out.emplace_back();
        for (const int64_t rows : budget.rows) constraint.coefficients.push_back(sign * static_cast<double>(rows));
        constraint.limit = limit;
    };
    for (const LengthBudget& budget : problem.budgets) add_rows(budget, 1, problem.most_rows(budget));
    if (problem.least_share > 0)
        for (const LengthBudget& budget : problem.budgets)
            add_rows(budget, -1, -problem.least_share * problem.most_rows(budget));
    for (size_t k = 0; k < program.limits.size(); ++k)
        if (std::isfinite(program.limits[k])) out.push_back({problem.losses[k], program.limits[k]});
    for (Constraint& constraint : out) constraint.scale = scale_of(problem, constraint);
    return out;
}

double constraint_total(const SpanProblem& problem, const Constraint& constraint, const Choice& choice) {
    double total = 0;
    for (int64_t l = 0; l < problem.layers; ++l)
        for (int64_t e = 0; e < problem.entries; ++e)
            total += constraint.of(problem, l, e, choice[static_cast<size_t>(l * problem.entries + e)]);
    return total;
}

double constraint_slack(const Constraint& constraint) { return 1e-9 * constraint.scale; }

void stop_when_interrupted() {
    if (interrupted()) throw RunError("interrupted before the end; no plan was written");
}

bool feasible(const SpanProblem& problem, const Program& program, const Choice& choice) {
    if (!few_rules_a_layer(problem, choice)) return false;
    const std::vector<Constraint> constraints = make_constraints(problem, program);
    return std::all_of(constraints.begin(), constraints.end(), [&](const Constraint& constraint) {
        return constraint_total(problem, constraint, choice) <= constraint.limit + constraint_slack(constraint);
    });
}

void check_budgets(const SpanProblem& problem) {
    for (const LengthBudget& budget : problem.budgets) {
        const auto [least, most] = std::minmax_element(budget.rows.begin(), budget.rows.end());
        const auto share = [&](int64_t rows) { return static_cast<double>(rows) / static_cast<double>(budget.length); };
        if (!(budget.density >= share(*least)))
            throw UserError(fmt::format(
                "a density of {:.4g} at length {} is out of reach: the rule that keeps least keeps {:.4g}; raise "
                "the density, or profile with a smaller block",
                budget.density, budget.length, share(*least)));
        if (problem.least_share * budget.density > share(*most))
            throw UserError(
                fmt::format("at least {:.4g} of a density of {:.4g} at length {} is out of reach: the rule that keeps "
                            "most keeps {:.4g}",
                            problem.least_share, budget.density, budget.length, share(*most)));
    }
}

}  // namespace ballast::moa
