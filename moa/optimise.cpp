#include "moa/optimise.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numeric>

#include "base/error.h"
#include "moa/reach.h"
#include "moa/rules.h"

namespace ballast::moa {
namespace {

class Optimiser {
  public:
    Optimiser(const Profile& profile, const OptimiseOptions& options) : profile_(profile), options_(options) {
        check();
        for (const LengthProfile& at : profile.lengths) lengths_.push_back(at.length);
        const int64_t profiled = lengths_.back(), longest = longest_text(profile, options);
        if (longest > profiled) lengths_.push_back(longest);
        sinks_ = options.sinks < 0 ? profile.block : options.sinks;
        if (sinks_ % profile.block != 0)
            throw UserError(
                fmt::format("{} sinks are no multiple of the profile's block of {}", sinks_, profile.block));
        rules_ = candidate_rules({.shortest = lengths_.front(),
                                  .profiled = profiled,
                                  .longest = longest,
                                  .block = profile.block,
                                  .sinks = sinks_,
                                  .alphas = options.alphas,
                                  .betas = options.betas},
                                 lengths_);
        if (measure() == LossMeasure::second_order && sinks_ != profile.block)
            throw UserError(fmt::format(
                "second-order losses were profiled with {} sinks, one block; give the same, or choose another measure",
                profile.block));
        fill_problem();
        check_budgets(problem_);
        fill_alike();
        if (longest > profiled) fill_reach();
    }

    std::vector<PlanCandidate> run(const std::function<void(const ProgramReport&)>& report) const {
        std::vector<Choice> choices = pareto_search(problem_, options_.pareto, report);
        for (Choice& choice : choices) {
            if (reach_.losses.empty()) break;
            stop_when_interrupted();
            choice = further_reaching(problem_, reach_, choice, options_.pareto.gap);
        }
        std::vector<PlanCandidate> out;
        for (const Choice& choice : not_dominated(problem_, choices)) out.push_back(plan_of(choice));
        return out;
    }

  private:
    void check() const {
        if (!(options_.density > 0 && options_.density <= 1))
            throw UserError(fmt::format("a density of {} is no share of memory; it lies in (0,1]", options_.density));
        if (!(options_.least_share >= 0 && options_.least_share <= 1))
            throw UserError(fmt::format("{} is no share of the density; it lies in [0,1]", options_.least_share));
        if (!(options_.alike >= 0 && options_.alike <= 1))
            throw UserError(fmt::format("{} is no share of a loss; it lies in [0,1]", options_.alike));
        for (const LengthProfile& at : profile_.lengths)
            if (at.sequences == 0)
                throw UserError(fmt::format(
                    "the profile has no sequence of {} positions; go on with ballast moa profile", at.length));
        if (measure() == LossMeasure::second_order && profile_.draws == 0)
            throw UserError(
                "the profile has no second-order losses; make it with ballast moa profile --draws, or choose another "
                "measure");
    }

    LossMeasure measure() const {
        return options_.measure.value_or(profile_.draws > 0 ? LossMeasure::second_order : LossMeasure::absolute);
    }

    int64_t heads_of_entry() const { return profile_.shape.heads / problem_.entries; }

    void fill_problem() {
        problem_.layers = profile_.shape.layers;
        problem_.entries = options_.by_query_head ? profile_.shape.heads : profile_.shape.kv_heads;
        problem_.rules = std::ssize(rules_);
        problem_.rules_per_layer = options_.rules_per_layer;
        problem_.least_share = options_.least_share;
        for (const int64_t N : lengths_) {
            LengthBudget& budget = problem_.budgets.emplace_back();
            budget.length = N;
            budget.density = options_.density;
            for (const auto& rule : rules_)
                budget.rows.push_back(std::min(N, infer::cache_size(rule, profile_.block, sinks_, N)));
        }
        for (const LengthProfile& at : profile_.lengths) problem_.losses.push_back(losses_at(at, at.length, rules_));
    }

    void fill_alike() {
        const std::vector<infer::SpanRule> narrowest{{static_cast<double>(sinks_ + profile_.block), 0}};
        for (const LengthProfile& at : profile_.lengths) {
            const std::vector<double> losses = losses_at(at, at.length, narrowest);
            reach_.alike.push_back(options_.alike * std::abs(std::accumulate(losses.begin(), losses.end(), 0.0)));
        }
    }

    /// The longest text was not profiled. A rule is taken to lose there what the same share loses of the longest text
    /// that was; and what it does not keep costs a little, in all what is alike, so that memory does not lie idle.
    void fill_reach() {
        reach_.losses = losses_at(profile_.lengths.back(), lengths_.back(), rules_);
        const LengthBudget& longest = problem_.budgets.back();
        const double all = reach_.alike.back() / static_cast<double>(problem_.heads());
        for (size_t i = 0; i < reach_.losses.size(); ++i) {
            const double kept = static_cast<double>(longest.rows[i % rules_.size()]);
            reach_.losses[i] += all * (1 - kept / static_cast<double>(longest.length));
        }
    }

    /// The loss of every head by every rule, [layers, entries, rules], when of each cache for texts of N positions the
    /// same share is kept of the profiled length.
    std::vector<double> losses_at(const LengthProfile& at, int64_t N, const std::vector<infer::SpanRule>& rules) const {
        std::vector<double> out(static_cast<size_t>(problem_.heads()) * rules.size());
        for (size_t r = 0; r < rules.size(); ++r) {
            const std::vector<double> losses = losses_of_heads(at, same_share(at, N, rules[r]));
            for (size_t i = 0; i < losses.size(); ++i) out[i * rules.size() + r] = losses[i];
        }
        return out;
    }

    /// In whole blocks, as caches are.
    int64_t same_share(const LengthProfile& at, int64_t N, const infer::SpanRule& rule) const {
        const auto cache = static_cast<double>(infer::cache_size(rule, profile_.block, sinks_, N));
        const double positions = std::ceil(cache * static_cast<double>(at.length) / static_cast<double>(N));
        return infer::cache_size({positions, 0}, profile_.block, sinks_, at.length);
    }

    /// [layers, entries]
    std::vector<double> losses_of_heads(const LengthProfile& at, int64_t cache) const {
        if (measure() == LossMeasure::second_order)
            return second_order_losses(profile_, at, options_.by_query_head, cache);
        const auto& influence = measure() == LossMeasure::signed_sum ? at.signed_sum : at.absolute;
        std::vector<double> out(static_cast<size_t>(problem_.heads()), 0.0);
        for (int64_t h = 0; h < problem_.heads() * heads_of_entry(); ++h)
            out[static_cast<size_t>(h / heads_of_entry())] += masked_influence(
                profile_, at, influence, h / profile_.shape.heads, h % profile_.shape.heads, sinks_, cache);
        return out;
    }

    PlanCandidate plan_of(const Choice& choice) const {
        PlanCandidate out;
        out.losses = losses_of(problem_, choice);
        out.alike = reach_.alike;
        infer::SpanPlan& plan = out.plan;
        plan.layers = problem_.layers;
        plan.entries = problem_.entries;
        for (const int32_t rule : choice) plan.rules.push_back(rules_[static_cast<size_t>(rule)]);
        plan.block = profile_.block;
        plan.sinks = sinks_;
        plan.shape = profile_.shape;
        plan.range = infer::LengthRange{lengths_.front(), lengths_.back()};
        for (size_t k = 0; k < lengths_.size(); ++k) {
            plan.figures.push_back({lengths_[k], density_of(problem_, problem_.budgets[k], choice), {}});
            if (k < out.losses.size()) plan.figures.back().loss = out.losses[k];
        }
        plan.validate("the plan that was found");
        return out;
    }

    const Profile& profile_;
    const OptimiseOptions& options_;
    std::vector<int64_t> lengths_;  // with budgets: those profiled, and the longest
    int64_t sinks_ = 0;
    std::vector<infer::SpanRule> rules_;
    SpanProblem problem_;
    Reach reach_;  // without losses where the longest text was profiled
};

}  // namespace

double masked_influence(const Profile& profile, const LengthProfile& at, const std::vector<double>& influence,
                        int64_t layer, int64_t head, int64_t sinks, int64_t cache) {
    const int64_t B = profile.block, blocks = profile.blocks(at), sink_blocks = sinks / B;
    const int64_t kept = (cache - sinks) / B;  // diagonals of blocks that are seen whole
    const double edge = static_cast<double>(B + 1) / static_cast<double>(2 * B);
    const double* head_influence = influence.data() + (layer * profile.shape.heads + head) * blocks * blocks;
    double masked = 0;
    for (int64_t i = kept; i < blocks; ++i)
        for (int64_t j = sink_blocks; j <= i - kept; ++j)
            masked += (i - j == kept ? edge : 1.0) * head_influence[i * blocks + j];
    return masked / static_cast<double>(at.sequences);
}

std::vector<double> second_order_losses(const Profile& profile, const LengthProfile& at, bool by_query_head,
                                        int64_t cache) {
    const std::vector<double>& all = by_query_head ? at.second_order_heads : at.second_order_groups;
    const int64_t spans = profile.spans(at), entries = std::ssize(all) / spans;
    const int64_t m = (cache - profile.block) / profile.block;  // blocks that are seen behind the sinks
    std::vector<double> out(static_cast<size_t>(entries), 0.0);
    for (int64_t i = 0; i < entries; ++i)
        for (int64_t wider = std::max<int64_t>(m, 1); wider <= spans; ++wider)
            out[static_cast<size_t>(i)] =
                std::max(out[static_cast<size_t>(i)],
                         all[static_cast<size_t>(i * spans + wider - 1)] / static_cast<double>(at.draws));
    return out;
}

int64_t longest_text(const Profile& profile, const OptimiseOptions& options) {
    const int64_t profiled = profile.lengths.back().length;
    const int64_t longest = options.longest > 0 ? options.longest : std::min(2 * profiled, profile.max_positions);
    if (longest < profiled || longest > profile.max_positions)
        throw UserError(
            fmt::format("plans for texts of {} positions: the profile reaches {}, the model {}; choose a length "
                        "between them",
                        longest, profiled, profile.max_positions));
    return longest;
}

void check_options(Profile profile, const OptimiseOptions& options) {
    for (LengthProfile& at : profile.lengths) at.sequences = at.draws = 1;
    Optimiser(profile, options);
}

std::vector<PlanCandidate> optimise(const Profile& profile, const OptimiseOptions& options,
                                    const std::function<void(const ProgramReport&)>& report) {
    return Optimiser(profile, options).run(report);
}

size_t most_even(const std::vector<PlanCandidate>& candidates) {
    require(!candidates.empty(), "no plan to choose from");
    const size_t lengths = candidates.front().losses.size();
    std::vector<double> least(lengths, std::numeric_limits<double>::infinity());
    for (const PlanCandidate& candidate : candidates)
        for (size_t k = 0; k < lengths; ++k) least[k] = std::min(least[k], candidate.losses[k]);
    const auto excess = [&](const PlanCandidate& candidate) {
        double sum = 0;
        for (size_t k = 0; k < lengths; ++k)
            sum += (candidate.losses[k] - least[k]) / std::max({std::abs(least[k]), candidate.alike[k], 1e-300});
        return std::isnan(sum) ? std::numeric_limits<double>::infinity() : sum;  // never better than a number
    };
    return static_cast<size_t>(std::min_element(candidates.begin(), candidates.end(),
                                                [&](const auto& a, const auto& b) { return excess(a) < excess(b); }) -
                               candidates.begin());
}

}  // namespace ballast::moa
