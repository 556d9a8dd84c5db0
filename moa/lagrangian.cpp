#include "moa/lagrangian.h"

#include <algorithm>
#include <cmath>

#include "moa/layer_choice.h"
#include "moa/local_search.h"

namespace ballast::moa {

double Solution::gap() const {
    if (!found) return std::numeric_limits<double>::infinity();
    if (value <= bound) return 0;
    return (value - bound) / std::max(std::abs(value), 1e-300);
}

namespace {

class Dual {
  public:
    Dual(const SpanProblem& problem, const Program& program, const LagrangianOptions& options)
        : problem_(problem),
          program_(program),
          options_(options),
          constraints_(make_constraints(problem, program)),
          pairs_(rule_pairs(problem)) {
        const auto& losses = problem.losses[program.objective];
        for (int64_t i = 0; i < problem.heads(); ++i) {
            const auto first = losses.begin() + i * problem.rules;
            const double most = *std::max_element(first, first + problem.rules);
            most_loss_ += most;
            scale_ += std::abs(most);
        }
        scale_ = std::max(scale_, 1e-300);
    }

    LagrangianResult run(const std::vector<Choice>& known, std::vector<double> multipliers) {
        multipliers.resize(constraints_.size(), 0.0);
        for (const Choice& choice : known)
            if (feasible(problem_, program_, choice)) offer(choice);
        result_.multipliers = multipliers;
        double relax = 1;
        int stale = 0;
        for (int i = 0; i < options_.iterations && !done(); ++i) {
            stop_when_interrupted();
            const double bound = evaluate(multipliers);
            const bool better = bound > result_.solution.bound;
            if (better) {
                result_.solution.bound = bound;
                result_.multipliers = multipliers;
                result_.solution.infeasible = bound > most_loss_ + 1e-6 * scale_;  // more than any choice has
                stale = 0;
            } else if (++stale >= 12) {  // back to the best, with shorter steps
                relax /= 2;
                stale = 0;
            }
            if (i % 25 == 0 || (better && relax < 1 && i % 5 == 0)) look_for_choice();
            if (relax < 1e-4) break;
            if (!move(multipliers, relax, bound)) break;
        }
        finish();
        return std::move(result_);
    }

  private:
    bool done() const { return result_.solution.infeasible || result_.solution.gap() <= options_.gap; }

    void offer(const Choice& choice) {
        const double value = loss_of(problem_, program_.objective, choice);
        if (result_.solution.found && value >= result_.solution.value) return;
        result_.solution.found = true;
        result_.solution.value = value;
        result_.solution.choice = choice;
    }

    /// The dual function; leaves its choice in choice_ and what it takes of each constraint in totals_.
    double evaluate(const std::vector<double>& multipliers) {
        prices_ = priced(problem_, program_, constraints_, multipliers);
        choice_.resize(static_cast<size_t>(problem_.heads()));
        double bound = 0;
        for (int64_t l = 0; l < problem_.layers; ++l) {
            pair_costs(problem_, prices_[static_cast<size_t>(l)], pairs_, costs_);
            const auto least = std::min_element(costs_.begin(), costs_.end());
            bound += *least;
            assign(problem_, prices_[static_cast<size_t>(l)], pairs_[static_cast<size_t>(least - costs_.begin())],
                   choice_.data() + l * problem_.entries);
        }
        totals_.clear();
        for (size_t m = 0; m < constraints_.size(); ++m) {
            bound -= multipliers[m] * constraints_[m].limit;
            totals_.push_back(constraint_total(problem_, constraints_[m], choice_));
        }
        return bound;
    }

    void look_for_choice() {
        if (const Choice known = result_.solution.choice; result_.solution.found) look_from(known);
        look_from(choice_);
    }
    void look_from(const Choice& start) {
        if (const auto found = search_feasible(problem_, program_, constraints_, pairs_, prices_, start)) offer(*found);
    }

    /// A step along the subgradient, in units of each constraint's scale, of Polyak's length.
    bool move(std::vector<double>& multipliers, double relax, double bound) {
        double norm = 0;
        std::vector<double> direction(constraints_.size());
        for (size_t m = 0; m < constraints_.size(); ++m) {
            direction[m] = (totals_[m] - constraints_[m].limit) / constraints_[m].scale;
            if (multipliers[m] <= 0 && direction[m] < 0) direction[m] = 0;
            norm += direction[m] * direction[m];
        }
        if (norm <= 0) return false;  // every constraint is met without slack that costs: the optimum
        const double target = result_.solution.found ? result_.solution.value : bound + std::abs(bound) + scale_;
        const double step = relax * std::max(target - bound, 1e-12 * scale_) / norm;
        for (size_t m = 0; m < constraints_.size(); ++m)
            multipliers[m] = std::max(0.0, multipliers[m] + step * direction[m] / constraints_[m].scale);
        return true;
    }

    /// The last choice, from the best multipliers, and the rules that a better one could use: forcing a rule into a
    /// layer raises the bound by what the layer's cheapest pair with it costs more.
    void finish() {
        const double bound = evaluate(result_.multipliers);
        result_.solution.bound = std::max(result_.solution.bound, bound);
        if (result_.solution.infeasible) return;
        if (!done()) look_for_choice();
        const double most = result_.solution.value;
        for (int64_t l = 0; l < problem_.layers; ++l) {
            pair_costs(problem_, prices_[static_cast<size_t>(l)], pairs_, costs_);
            const double least = *std::min_element(costs_.begin(), costs_.end());
            std::vector<bool>& useful = result_.useful.emplace_back(static_cast<size_t>(problem_.rules), false);
            for (size_t i = 0; i < pairs_.size(); ++i) {
                if (!(bound + costs_[i] - least <= most)) continue;
                useful[static_cast<size_t>(pairs_[i].first)] = useful[static_cast<size_t>(pairs_[i].second)] = true;
            }
        }
        for (size_t i = 0; result_.solution.found && i < result_.solution.choice.size(); ++i)
            result_.useful[i / static_cast<size_t>(problem_.entries)][static_cast<size_t>(result_.solution.choice[i])] =
                true;
    }

    const SpanProblem& problem_;
    const Program& program_;
    const LagrangianOptions& options_;
    std::vector<Constraint> constraints_;
    std::vector<RulePair> pairs_;
    std::vector<std::vector<double>> prices_;
    std::vector<double> costs_, totals_;
    double most_loss_ = 0, scale_ = 0;  // with every head's worst rule
    Choice choice_;
    LagrangianResult result_;
};

}  // namespace

LagrangianResult solve_lagrangian(const SpanProblem& problem, const Program& program, const LagrangianOptions& options,
                                  const std::vector<Choice>& known, const std::vector<double>& multipliers) {
    return Dual(problem, program, options).run(known, multipliers);
}

}  // namespace ballast::moa
