// From a profile to plans.
#pragma once

#include <functional>

#include "moa/pareto.h"
#include "moa/profile_file.h"

namespace ballast::moa {

struct OptimiseOptions {
    double density = 0.5;    // most of the memory that heads keep on average, at every length
    double least_share = 0;  // and at least this share of it
    int64_t longest = 0;  // length that plans shall take; 0: twice the longest profiled, within the model's positions
    int64_t alphas = 11, betas = 9;
    int64_t sinks = -1;  // -1: one block
    int64_t rules_per_layer = 2;
    bool signed_influence = false;  // E instead of |E|
    bool by_query_head = false;     // an entry a query head where heads share keys; else one a key-value head
    ParetoOptions pareto;
};

/// A plan and what it is said to lose, by profiled length.
struct PlanCandidate {
    infer::SpanPlan plan;
    std::vector<double> losses;
};

/// What a head loses at one length when it keeps `cache` positions: the influence of the entries that are masked then,
/// mean over sequences. Blocks that are cut by the span's edge count by the share of their entries that is masked,
/// (block + 1) / (2 block).
double masked_influence(const Profile& profile, const LengthProfile& at, const std::vector<double>& influence,
                        int64_t layer, int64_t head, int64_t sinks, int64_t cache);

/// The Pareto set, by loss at the shortest length. UserError when the profile has a length that was not run, or nothing
/// satisfies the options.
std::vector<PlanCandidate> optimise(const Profile& profile, const OptimiseOptions& options,
                                    const std::function<void(const ProgramReport&)>& report);

/// The one whose losses are least in the mean over lengths, each as a share of the least there.
size_t most_even(const std::vector<PlanCandidate>& candidates);

}  // namespace ballast::moa
