// From a profile to plans.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string_view>

#include "moa/pareto.h"
#include "moa/profile_file.h"

namespace ballast::moa {

/// What a rule is held to lose.
///   second_order  the loss that hiding all of what it hides costs, to second order (Profiler)
///   absolute      the sum of |E| of the entries that it hides, as the MoA project does
///   signed_sum    the sum of E, as the paper's text says
enum class LossMeasure { second_order, absolute, signed_sum };
inline constexpr std::array<std::string_view, 3> kLossMeasureNames{"second-order", "absolute", "signed"};

struct OptimiseOptions {
    double density = 0.5;    // most of the memory that heads keep on average, at every length
    double least_share = 0;  // and at least this share of it
    int64_t longest = 0;  // length that plans shall take; 0: twice the longest profiled, within the model's positions
    int64_t alphas = 11, betas = 9;
    int64_t sinks = -1;  // -1: one block
    int64_t rules_per_layer = 2;
    std::optional<LossMeasure> measure;  // absent: second_order where the profile has it, else absolute
    bool by_query_head = false;          // an entry a query head where heads share keys; else one a key-value head
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

/// What every entry (query head or key-value head) loses at one length when it keeps `cache` positions, in nats a
/// scored token: the mean over draws, made so that who keeps less never loses less. [layers, entries]
std::vector<double> second_order_losses(const Profile& profile, const LengthProfile& at, bool by_query_head,
                                        int64_t cache);

/// The Pareto set, by loss at the shortest length. UserError when the profile has a length that was not run, or lacks
/// what is asked for, or nothing satisfies the options.
std::vector<PlanCandidate> optimise(const Profile& profile, const OptimiseOptions& options,
                                    const std::function<void(const ProgramReport&)>& report);

/// The one whose losses are least in the mean over lengths, each as a share of the least there.
size_t most_even(const std::vector<PlanCandidate>& candidates);

}  // namespace ballast::moa
