#include "moa/optimise.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "moa/rules.h"

namespace ballast::moa {
namespace {

class Optimiser {
  public:
    Optimiser(const Profile& profile, const OptimiseOptions& options) : profile_(profile), options_(options) {
        check();
        for (const LengthProfile& at : profile.lengths) lengths_.push_back(at.length);
        const int64_t profiled = lengths_.back();
        const int64_t longest = options.longest > 0 ? options.longest : std::min(2 * profiled, profile.max_positions);
        if (longest < profiled || longest > profile.max_positions)
            throw UserError(
                fmt::format("plans for texts of {} positions: the profile reaches {}, the model {}; choose a length "
                            "between them",
                            longest, profiled, profile.max_positions));
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
    }

    std::vector<PlanCandidate> run(const std::function<void(const ProgramReport&)>& report) const {
        std::vector<PlanCandidate> out;
        for (const Choice& choice : pareto_search(problem_, options_.pareto, report)) out.push_back(plan_of(choice));
        return out;
    }

  private:
    void check() const {
        if (!(options_.density > 0 && options_.density <= 1))
            throw UserError(fmt::format("a density of {} is no share of memory; it lies in (0,1]", options_.density));
        if (!(options_.least_share >= 0 && options_.least_share <= 1))
            throw UserError(fmt::format("{} is no share of the density; it lies in [0,1]", options_.least_share));
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
        for (const LengthProfile& at : profile_.lengths)
            problem_.losses.push_back(measure() == LossMeasure::second_order ? second_order_at(at) : influence_at(at));
    }

    std::vector<double> second_order_at(const LengthProfile& at) const {
        std::vector<double> out(static_cast<size_t>(problem_.heads() * problem_.rules));
        for (int64_t r = 0; r < problem_.rules; ++r) {
            const int64_t cache = infer::cache_size(rules_[static_cast<size_t>(r)], profile_.block, sinks_, at.length);
            const std::vector<double> losses = second_order_losses(profile_, at, options_.by_query_head, cache);
            for (int64_t i = 0; i < problem_.heads(); ++i)
                out[static_cast<size_t>(i * problem_.rules + r)] = losses[static_cast<size_t>(i)];
        }
        return out;
    }

    std::vector<double> influence_at(const LengthProfile& at) const {
        const auto& influence = measure() == LossMeasure::signed_sum ? at.signed_sum : at.absolute;
        std::vector<double> out;
        for (int64_t l = 0; l < problem_.layers; ++l)
            for (int64_t e = 0; e < problem_.entries; ++e)
                for (const auto& rule : rules_) {
                    const int64_t cache = infer::cache_size(rule, profile_.block, sinks_, at.length);
                    double loss = 0;
                    for (int64_t h = e * heads_of_entry(); h < (e + 1) * heads_of_entry(); ++h)
                        loss += masked_influence(profile_, at, influence, l, h, sinks_, cache);
                    out.push_back(loss);
                }
        return out;
    }

    PlanCandidate plan_of(const Choice& choice) const {
        PlanCandidate out;
        out.losses = losses_of(problem_, choice);
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
            sum += (candidate.losses[k] - least[k]) / std::max(std::abs(least[k]), 1e-300);
        return std::isnan(sum) ? std::numeric_limits<double>::infinity() : sum;  // never better than a number
    };
    return static_cast<size_t>(std::min_element(candidates.begin(), candidates.end(),
                                                [&](const auto& a, const auto& b) { return excess(a) < excess(b); }) -
                               candidates.begin());
}

}  // namespace ballast::moa
