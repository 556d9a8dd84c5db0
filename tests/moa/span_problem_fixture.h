// Programs small enough to try every choice, and large ones of a model's kind.
#pragma once

#include <cmath>
#include <functional>
#include <optional>
#include <random>

#include "moa/rules.h"
#include "moa/span_problem.h"

namespace ballast::test {

/// Losses that fall with what a rule keeps, by heads that reach very differently far.
inline moa::SpanProblem random_problem(uint32_t seed, int64_t layers, int64_t entries,
                                       const std::vector<infer::SpanRule>& rules, const std::vector<int64_t>& lengths,
                                       int64_t longest, int64_t block, double density) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    moa::SpanProblem problem;
    problem.layers = layers;
    problem.entries = entries;
    problem.rules = std::ssize(rules);
    std::vector<int64_t> all = lengths;
    if (longest > lengths.back()) all.push_back(longest);
    for (const int64_t N : all) {
        moa::LengthBudget& budget = problem.budgets.emplace_back();
        budget.length = N;
        budget.density = density;
        for (const auto& rule : rules) budget.rows.push_back(std::min(N, infer::cache_size(rule, block, block, N)));
    }
    problem.losses.resize(lengths.size());
    for (int64_t head = 0; head < layers * entries; ++head) {
        const double size = std::exp(6 * uniform(random) - 6), reach = std::exp(-4 * uniform(random)),
                     growth = 0.5 + uniform(random);
        for (size_t k = 0; k < lengths.size(); ++k)
            for (int64_t r = 0; r < problem.rules; ++r) {
                const double kept = static_cast<double>(problem.budgets[k].rows[static_cast<size_t>(r)]);
                const double scale = reach * 0.3 * std::pow(static_cast<double>(lengths[k]), growth) *
                                     std::pow(static_cast<double>(lengths[0]), 1 - growth);
                const double rest = std::exp(-kept / scale) - std::exp(-static_cast<double>(lengths[k]) / scale);
                problem.losses[k].push_back(size * std::max(0.0, rest) * (1 + 0.05 * uniform(random)));
            }
    }
    return problem;
}

/// Of all choices that keep the constraints, the least loss at the objective's length; none when there is no such
/// choice.
inline std::optional<double> brute_force(const moa::SpanProblem& problem, const moa::Program& program) {
    std::optional<double> best;
    moa::Choice choice(static_cast<size_t>(problem.heads()), 0);
    for (bool more = true; more;) {
        if (moa::feasible(problem, program, choice)) {
            const double loss = moa::loss_of(problem, program.objective, choice);
            if (!best || loss < *best) best = loss;
        }
        more = false;
        for (int32_t& rule : choice) {
            if (++rule < problem.rules) {
                more = true;
                break;
            }
            rule = 0;
        }
    }
    return best;
}

}  // namespace ballast::test
