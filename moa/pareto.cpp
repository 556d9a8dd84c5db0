#include "moa/pareto.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <utility>

#include "base/error.h"
#include "moa/cbc.h"

namespace ballast::moa {
namespace {

class ParetoSearch {
  public:
    ParetoSearch(const SpanProblem& problem, const ParetoOptions& options,
                 const std::function<void(const ProgramReport&)>& report)
        : problem_(problem),
          options_(options),
          report_(report),
          lengths_(problem.losses.size()),
          of_(count_programs(lengths_, options.intervals)),
          multipliers_(lengths_) {}

    std::vector<Choice> run() {
        check_budgets(problem_);
        for (size_t k = 0; k < lengths_; ++k) {
            const Solution alone = solve(Program(k, lengths_));
            if (!alone.found)
                throw UserError(
                    alone.infeasible
                        ? "no choice of rules keeps every density at once; raise the density, or allow more "
                          "different rules"
                        : "no choice of rules was found that keeps every density; raise the density, give the "
                          "solver more time, or install coinor-cbc");
        }
        if (lengths_ > 1) take_ranges();
        for (size_t k = 0; lengths_ > 1 && k < lengths_; ++k) limited(Program(k, lengths_), 0);
        return not_dominated(problem_, choices_);
    }

  private:
    /// Where each length's loss can lie among good choices: from its own optimum to what the others' optima cost there.
    void take_ranges() {
        for (size_t k = 0; k < lengths_; ++k) {
            least_.push_back(std::numeric_limits<double>::infinity());
            most_.push_back(-std::numeric_limits<double>::infinity());
            for (const Choice& choice : choices_) {
                const double loss = loss_of(problem_, k, choice);
                least_[k] = std::min(least_[k], loss);
                most_[k] = std::max(most_[k], loss);
            }
        }
    }

    /// Every combination of limits on the lengths from `k` on.
    void limited(Program program, size_t k) {
        if (k == lengths_) {
            solve(program);
            return;
        }
        if (k == program.objective) return limited(program, k + 1);
        for (int i = 1; i <= options_.intervals; ++i) {
            program.limits[k] = least_[k] + (most_[k] - least_[k]) * i / options_.intervals;
            limited(program, k + 1);
        }
    }

    Solution solve(const Program& program) {
        stop_when_interrupted();
        const auto start = std::chrono::steady_clock::now();
        ProgramReport report{++number_, of_, program, {}, false, 0};
        LagrangianResult result = solve_lagrangian(problem_, program, {.gap = options_.gap}, choices_,
                                                   std::exchange(multipliers_[program.objective], {}));
        multipliers_[program.objective] = result.multipliers;
        report.solution = result.solution;
        const double left = options_.seconds - cbc_seconds_;
        const bool open = !report.solution.infeasible && report.solution.gap() > options_.gap;
        if (open && !options_.cbc.empty() && left > 0) {
            report.used_cbc = true;
            // What programs before did not need is the later ones'.
            const double share = std::max(1.0, 2 * left / static_cast<double>(of_ - number_ + 1));
            const auto cbc_start = std::chrono::steady_clock::now();
            report.solution = solve_cbc(problem_, program, result, {options_.cbc, options_.gap, std::min(left, share)});
            cbc_seconds_ += since(cbc_start);
        }
        if (report.solution.found) choices_.push_back(report.solution.choice);
        report.seconds = since(start);
        report_(report);
        return report.solution;
    }

    static double since(std::chrono::steady_clock::time_point start) {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }

    const SpanProblem& problem_;
    const ParetoOptions& options_;
    const std::function<void(const ProgramReport&)>& report_;
    size_t lengths_, of_, number_ = 0;
    std::vector<std::vector<double>> multipliers_;  // by objective: where its last program ended
    std::vector<Choice> choices_;                   // of all programs so far
    std::vector<double> least_, most_;
    double cbc_seconds_ = 0;
};

}  // namespace

size_t count_programs(size_t lengths, int intervals) {
    if (lengths < 2) return lengths;
    size_t combinations = 1;
    for (size_t k = 1; k < lengths; ++k) combinations *= static_cast<size_t>(intervals);
    return lengths + lengths * combinations;
}

std::vector<Choice> not_dominated(const SpanProblem& problem, const std::vector<Choice>& choices) {
    std::map<std::vector<double>, Choice> by_losses;  // equal losses: one of them
    for (const Choice& choice : choices) by_losses.emplace(losses_of(problem, choice), choice);
    std::vector<Choice> out;
    for (const auto& [losses, choice] : by_losses) {
        const bool dominated = std::any_of(by_losses.begin(), by_losses.end(), [&](const auto& other) {
            if (other.first == losses) return false;
            for (size_t k = 0; k < losses.size(); ++k)
                if (other.first[k] > losses[k]) return false;
            return true;
        });
        if (!dominated) out.push_back(choice);
    }
    return out;
}

std::vector<Choice> pareto_search(const SpanProblem& problem, const ParetoOptions& options,
                                  const std::function<void(const ProgramReport&)>& report) {
    return ParetoSearch(problem, options, report).run();
}

}  // namespace ballast::moa
