#include "moa/layer_choice.h"

#include <algorithm>

namespace ballast::moa {

std::vector<RulePair> rule_pairs(const SpanProblem& problem) {
    std::vector<RulePair> out;
    const auto rules = static_cast<int32_t>(problem.rules);
    for (int32_t a = 0; a < rules; ++a)
        for (int32_t b = a; b < (problem.rules_per_layer > 1 ? rules : a + 1); ++b) out.push_back({a, b});
    return out;
}

std::vector<std::vector<double>> priced(const SpanProblem& problem, const Program& program,
                                        const std::vector<Constraint>& constraints,
                                        const std::vector<double>& multipliers) {
    const int64_t E = problem.entries, R = problem.rules;
    std::vector<std::vector<double>> out(static_cast<size_t>(problem.layers));
    for (int64_t l = 0; l < problem.layers; ++l) {
        std::vector<double>& prices = out[static_cast<size_t>(l)];
        prices.resize(static_cast<size_t>(R * E));
        for (int64_t r = 0; r < R; ++r)
            for (int64_t e = 0; e < E; ++e) {
                double price = problem.loss(program.objective, l, e, r);
                for (size_t m = 0; m < constraints.size(); ++m)
                    if (multipliers[m] > 0) price += multipliers[m] * constraints[m].of(problem, l, e, r);
                prices[static_cast<size_t>(r * E + e)] = price;
            }
    }
    return out;
}

void pair_costs(const SpanProblem& problem, const std::vector<double>& prices, const std::vector<RulePair>& pairs,
                std::vector<double>& out) {
    out.resize(pairs.size());
    const int64_t E = problem.entries;
    for (size_t i = 0; i < pairs.size(); ++i) {
        const double *a = prices.data() + pairs[i].first * E, *b = prices.data() + pairs[i].second * E;
        double cost = 0;
        for (int64_t e = 0; e < E; ++e) cost += std::min(a[e], b[e]);
        out[i] = cost;
    }
}

void assign(const SpanProblem& problem, const std::vector<double>& prices, RulePair pair, int32_t* rules) {
    const int64_t E = problem.entries;
    for (int64_t e = 0; e < E; ++e)
        rules[e] = prices[static_cast<size_t>(pair.second * E + e)] < prices[static_cast<size_t>(pair.first * E + e)]
                       ? pair.second
                       : pair.first;
}

}  // namespace ballast::moa
