#include "moa/local_search.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace ballast::moa {
namespace {

/// The loss and the constraints' totals of a layer, or of all layers.
using Totals = std::vector<double>;  // the loss, then one a constraint

class Search {
  public:
    Search(const SpanProblem& problem, const Program& program, const std::vector<Constraint>& constraints,
           const std::vector<RulePair>& pairs, const std::vector<std::vector<double>>& prices, Choice start)
        : problem_(problem), program_(program), constraints_(constraints), choice_(std::move(start)) {
        list_layers(pairs, prices);
        totals_.assign(constraints_.size() + 1, 0.0);
        for (int64_t l = 0; l < problem_.layers; ++l) {
            current_.push_back(totals_of_layer(l, layer(l)));
            add(totals_, current_.back(), 1);
        }
    }

    bool reach_feasible() {
        while (violation(totals_) > 0)
            if (!step(/*keep=*/false)) return false;
        return true;
    }
    void improve() {
        while (step(/*keep=*/true)) {
        }
    }
    const Choice& choice() const { return choice_; }

  private:
    /// A way to fill a layer.
    struct Layer {
        std::vector<int32_t> rules;
        Totals totals;
    };

    const int32_t* layer(int64_t l) const { return choice_.data() + l * problem_.entries; }

    static void add(Totals& to, const Totals& more, double sign) {
        for (size_t i = 0; i < to.size(); ++i) to[i] += sign * more[i];
    }

    void add_head(Totals& totals, int64_t l, int64_t e, int32_t rule, double sign) const {
        totals[0] += sign * problem_.loss(program_.objective, l, e, rule);
        for (size_t m = 0; m < constraints_.size(); ++m)
            totals[m + 1] += sign * constraints_[m].of(problem_, l, e, rule);
    }

    Totals totals_of_layer(int64_t l, const int32_t* rules) const {
        Totals out(constraints_.size() + 1, 0.0);
        for (int64_t e = 0; e < problem_.entries; ++e) add_head(out, l, e, rules[e], 1);
        return out;
    }

    /// The pairs do not change while the search goes on, so their totals are taken once.
    void list_layers(const std::vector<RulePair>& pairs, const std::vector<std::vector<double>>& prices) {
        layers_.resize(static_cast<size_t>(problem_.layers));
        for (int64_t l = 0; l < problem_.layers; ++l) {
            std::set<std::vector<int32_t>> seen;
            for (const RulePair pair : pairs) {
                std::vector<int32_t> rules(static_cast<size_t>(problem_.entries));
                assign(problem_, prices[static_cast<size_t>(l)], pair, rules.data());
                if (!seen.insert(rules).second) continue;
                Totals totals = totals_of_layer(l, rules.data());
                layers_[static_cast<size_t>(l)].push_back({std::move(rules), std::move(totals)});
            }
        }
    }

    /// In units of the constraints' scales, so that they weigh alike.
    double violation(const Totals& totals) const {
        double sum = 0;
        for (size_t m = 0; m < constraints_.size(); ++m) {
            const double over = totals[m + 1] - constraints_[m].limit - constraint_slack(constraints_[m]);
            if (over > 0) sum += over / constraints_[m].scale;
        }
        return sum;
    }

    /// Less is better; infinity for a move that does not help.
    double worth(const Totals& after, bool keep) const {
        const double loss = after[0] - totals_[0];
        if (keep) {
            const bool better = loss < -1e-12 * std::abs(totals_[0]);
            return better && violation(after) <= 0 ? loss : std::numeric_limits<double>::infinity();
        }
        const double less = violation(totals_) - violation(after);
        if (!(less > 1e-12)) return std::numeric_limits<double>::infinity();
        return loss <= 0 ? -less : loss / less;  // what it saves besides comes first
    }

    bool step(bool keep) {
        stop_when_interrupted();
        double best = std::numeric_limits<double>::infinity();
        int64_t best_layer = -1;
        std::vector<int32_t> best_rules;
        const auto consider = [&](int64_t l, const Totals& layer_totals, auto&& rules) {
            Totals after = totals_;
            add(after, current_[static_cast<size_t>(l)], -1);
            add(after, layer_totals, 1);
            const double value = worth(after, keep);
            if (!(value < best)) return;
            best = value;
            best_layer = l;
            best_rules = rules();
        };
        for (int64_t l = 0; l < problem_.layers; ++l) {
            for (const Layer& other : layers_[static_cast<size_t>(l)])
                consider(l, other.totals, [&] { return other.rules; });
            consider_heads(l, consider);
        }
        if (best_layer < 0) return false;
        take(best_layer, best_rules);
        return true;
    }

    template <class Consider>
    void consider_heads(int64_t l, const Consider& consider) const {
        const std::set<int32_t> used(layer(l), layer(l) + problem_.entries);
        for (int64_t e = 0; e < problem_.entries; ++e)
            for (const int32_t rule : used) {
                if (rule == layer(l)[e]) continue;
                Totals totals = current_[static_cast<size_t>(l)];
                add_head(totals, l, e, layer(l)[e], -1);
                add_head(totals, l, e, rule, 1);
                consider(l, totals, [&] {
                    std::vector<int32_t> rules(layer(l), layer(l) + problem_.entries);
                    rules[static_cast<size_t>(e)] = rule;
                    return rules;
                });
            }
    }

    void take(int64_t l, const std::vector<int32_t>& rules) {
        std::copy(rules.begin(), rules.end(), choice_.begin() + l * problem_.entries);
        add(totals_, current_[static_cast<size_t>(l)], -1);
        current_[static_cast<size_t>(l)] = totals_of_layer(l, layer(l));
        add(totals_, current_[static_cast<size_t>(l)], 1);
    }

    const SpanProblem& problem_;
    const Program& program_;
    const std::vector<Constraint>& constraints_;
    Choice choice_;
    Totals totals_;
    std::vector<Totals> current_;             // by layer
    std::vector<std::vector<Layer>> layers_;  // [layers][ways]
};

}  // namespace

std::optional<Choice> search_feasible(const SpanProblem& problem, const Program& program,
                                      const std::vector<Constraint>& constraints, const std::vector<RulePair>& pairs,
                                      const std::vector<std::vector<double>>& prices, Choice start) {
    Search search(problem, program, constraints, pairs, prices, std::move(start));
    if (!search.reach_feasible()) return std::nullopt;
    search.improve();
    if (!feasible(problem, program, search.choice())) return std::nullopt;  // totals that drifted by rounding
    return search.choice();
}

}  // namespace ballast::moa
