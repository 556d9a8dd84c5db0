#include "moa/lp_file.h"

#include <array>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <sstream>

#include "base/error.h"

namespace ballast::moa {
namespace {

std::string head_variable(int64_t l, int64_t e, int64_t r) { return fmt::format("x_{}_{}_{}", l, e, r); }
std::string layer_variable(int64_t l, int64_t r) { return fmt::format("z_{}_{}", l, r); }

class LpWriter {
  public:
    LpWriter(const SpanProblem& problem, const Program& program, const std::vector<std::vector<bool>>& useful,
             double loss_scale)
        : problem_(problem), program_(program), useful_(useful), loss_scale_(loss_scale) {}

    std::string text() {
        out_ = "Minimize\n loss:";
        for_each_head([&](int64_t l, int64_t e) {
            for_each_rule(l, [&](int64_t r) {
                term(loss_scale_ * problem_.loss(program_.objective, l, e, r), head_variable(l, e, r));
            });
        });
        out_ += "\nSubject To\n";
        totals();
        one_rule_a_head();
        few_rules_a_layer();
        binaries();
        return std::move(out_);
    }

  private:
    template <class Take>
    void for_each_head(const Take& take) const {
        for (int64_t l = 0; l < problem_.layers; ++l)
            for (int64_t e = 0; e < problem_.entries; ++e) take(l, e);
    }
    template <class Take>
    void for_each_rule(int64_t l, const Take& take) const {
        for (int64_t r = 0; r < problem_.rules; ++r)
            if (useful_[static_cast<size_t>(l)][static_cast<size_t>(r)]) take(r);
    }

    /// Readers of the format have short lines.
    void term(double coefficient, const std::string& variable) {
        if (++terms_ % 8 == 0) out_ += "\n ";
        out_ += fmt::format(" {} {:.12g} {}", coefficient < 0 ? '-' : '+', std::abs(coefficient), variable);
    }
    void row(const char* kind) { out_ += fmt::format(" {}{}:", kind, rows_++); }

    /// Each in units in which the limit is 1000.
    void totals() {
        for (const Constraint& constraint : make_constraints(problem_, program_)) {
            const double scale = constraint.limit == 0 ? 1 : 1000 / std::abs(constraint.limit);
            row("t");
            for_each_head([&](int64_t l, int64_t e) {
                for_each_rule(l, [&](int64_t r) {
                    const double coefficient = scale * constraint.of(problem_, l, e, r);
                    if (coefficient != 0) term(coefficient, head_variable(l, e, r));
                });
            });
            out_ += fmt::format(" <= {:.12g}\n", scale * constraint.limit);
        }
    }
    void one_rule_a_head() {
        for_each_head([&](int64_t l, int64_t e) {
            row("h");
            for_each_rule(l, [&](int64_t r) { term(1, head_variable(l, e, r)); });
            out_ += " = 1\n";
        });
    }
    void few_rules_a_layer() {
        for_each_head([&](int64_t l, int64_t e) {
            for_each_rule(l, [&](int64_t r) {
                row("u");
                term(1, head_variable(l, e, r));
                term(-1, layer_variable(l, r));
                out_ += " <= 0\n";
            });
        });
        for (int64_t l = 0; l < problem_.layers; ++l) {
            row("z");
            for_each_rule(l, [&](int64_t r) { term(1, layer_variable(l, r)); });
            out_ += fmt::format(" <= {}\n", problem_.rules_per_layer);
        }
    }
    void binaries() {
        out_ += "Binaries\n";
        for_each_head(
            [&](int64_t l, int64_t e) { for_each_rule(l, [&](int64_t r) { out_ += head_variable(l, e, r) + "\n"; }); });
        for (int64_t l = 0; l < problem_.layers; ++l)
            for_each_rule(l, [&](int64_t r) { out_ += layer_variable(l, r) + "\n"; });
        out_ += "End\n";
    }

    const SpanProblem& problem_;
    const Program& program_;
    const std::vector<std::vector<bool>>& useful_;
    double loss_scale_;
    std::string out_;
    int64_t terms_ = 0, rows_ = 0;
};

/// "x_3_0_17": layer, head and rule; none for other names.
std::optional<std::array<int64_t, 3>> numbers_of(std::string_view name) {
    if (!name.starts_with("x_")) return std::nullopt;
    name.remove_prefix(1);
    std::array<int64_t, 3> out{};
    for (int64_t& number : out) {
        if (!name.starts_with("_")) return std::nullopt;
        const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), number);
        if (error != std::errc{} || number < 0) return std::nullopt;
        name.remove_prefix(static_cast<size_t>(end - name.data()));
    }
    if (!name.empty()) return std::nullopt;
    return out;
}

}  // namespace

std::string lp_text(const SpanProblem& problem, const Program& program, const std::vector<std::vector<bool>>& useful,
                    double loss_scale) {
    return LpWriter(problem, program, useful, loss_scale).text();
}

std::string solution_text(const SpanProblem& problem, const Choice& choice) {
    std::string out = "Feasible - objective value 0\n";
    int64_t number = 0;
    for (int64_t l = 0; l < problem.layers; ++l) {
        std::vector<bool> used(static_cast<size_t>(problem.rules));
        for (int64_t e = 0; e < problem.entries; ++e) {
            const int32_t rule = choice[static_cast<size_t>(l * problem.entries + e)];
            used[static_cast<size_t>(rule)] = true;
            out += fmt::format("{} {} 1 0\n", number++, head_variable(l, e, rule));
        }
        for (int64_t r = 0; r < problem.rules; ++r)
            if (used[static_cast<size_t>(r)]) out += fmt::format("{} {} 1 0\n", number++, layer_variable(l, r));
    }
    return out;
}

SolverAnswer read_solution(const SpanProblem& problem, const std::string& text) {
    std::istringstream lines(text);
    std::string line;
    std::getline(lines, line);
    SolverAnswer answer;
    answer.infeasible = line.starts_with("Infeasible") || line.starts_with("Integer infeasible");
    if (answer.infeasible) return answer;
    Choice choice(static_cast<size_t>(problem.heads()), -1);
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::string mark, name;
        double value = 0;
        words >> mark;
        if (mark == "**") words >> mark;  // beyond a bound by cbc's own count
        if (!(words >> name >> value) || value < 0.5) continue;
        const auto numbers = numbers_of(name);
        if (!numbers) continue;
        const auto [l, e, r] = *numbers;
        if (l >= problem.layers || e >= problem.entries || r >= problem.rules) return answer;
        int32_t& rule = choice[static_cast<size_t>(l * problem.entries + e)];
        if (rule >= 0) return answer;
        rule = static_cast<int32_t>(r);
    }
    for (const int32_t rule : choice)
        if (rule < 0) return answer;
    answer.choice = std::move(choice);
    return answer;
}

std::optional<double> bound_in_log(const std::string& log) {
    const size_t result = log.rfind("\nResult - ");
    if (result == std::string::npos) return std::nullopt;
    const std::string_view end = std::string_view(log).substr(result);
    const auto figure = [&](std::string_view name) -> std::optional<double> {
        const size_t at = end.find(name);
        if (at == std::string_view::npos) return std::nullopt;
        const size_t first = end.find_first_not_of(' ', at + name.size());
        if (first == std::string_view::npos) return std::nullopt;
        double value = 0;
        const auto [stop, error] = std::from_chars(end.data() + first, end.data() + end.size(), value);
        return error == std::errc{} && std::isfinite(value) ? std::optional(value) : std::nullopt;
    };
    if (const auto bound = figure("Lower bound:")) return bound;
    // A proven optimum is its own bound, and the log has no other line then.
    if (end.starts_with("\nResult - Optimal solution found")) return figure("Objective value:");
    return std::nullopt;
}

}  // namespace ballast::moa
