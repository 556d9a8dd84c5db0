// Makes plans from a profile.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string_view>

#include "moa/pareto.h"
#include "moa/profile_file.h"

namespace ballast::moa {

/// The loss that is attributed to a rule.
///   second_order  the loss of hiding all keys that the rule hides, to second order (Profiler)
///   absolute      the sum of |E| over the hidden entries, as the MoA project does
///   signed_sum    the sum of E, as the paper's text says
enum class LossMeasure { second_order, absolute, signed_sum };
inline constexpr std::array<std::string_view, 3> kLossMeasureNames{"second-order", "absolute", "signed"};

struct OptimiseOptions {
    double density = 0.5;    // upper limit of the mean memory of heads, at every length
    double least_share = 0;  // and at least this share of that limit
    int64_t longest = 0;     // longest text for plans; 0: twice the longest profiled, within the model's positions
    int64_t alphas = 11, betas = 9;
    int64_t sinks = -1;  // -1: one block
    int64_t rules_per_layer = 2;
    std::optional<LossMeasure> measure;  // absent: second_order where the profile has it, else absolute
    /// Losses that differ by less than this share of what sinks and a block alone lose are the same: among plans that
    /// lose alike, the one that is taken to lose least at `longest` (moa/reach.h).
    double alike = 0.001;
    bool by_query_head = false;  // where heads share keys: one entry per query head, not per key-value head
    ParetoOptions pareto;
};

/// A plan, its predicted losses by profiled length, and the differences of them that mean nothing
/// (OptimiseOptions::alike).
struct PlanCandidate {
    infer::SpanPlan plan;
    std::vector<double> losses, alike;
};

/// The loss of a head at one length when it keeps `cache` positions: the influence of the entries that are then masked,
/// as a mean over sequences. A block cut by the span's edge counts by the share of its entries that is masked, (block +
/// 1) / (2 block).
double masked_influence(const Profile& profile, const LengthProfile& at, const std::vector<double>& influence,
                        int64_t layer, int64_t head, int64_t sinks, int64_t cache);

/// The loss of every entry (query head or key-value head) at one length when it keeps `cache` positions, in nats per
/// scored token: the mean over draws, adjusted so that keeping less never loses less. [layers, entries]
std::vector<double> second_order_losses(const Profile& profile, const LengthProfile& at, bool by_query_head,
                                        int64_t cache);

/// The longest text of the plans. UserError when the profile or the model does not allow it.
int64_t longest_text(const Profile& profile, const OptimiseOptions& options);

/// The UserErrors that optimise() would have for these options and a finished profile of this shape, before it
/// searches.
void check_options(Profile profile, const OptimiseOptions& options);

/// The Pareto set, sorted by loss at the shortest length. Where the longest text was not profiled, each plan was then
/// exchanged for one that loses alike and reaches further. UserError when the profile has a length that was not run or
/// lacks the requested measure, or when nothing satisfies the options.
std::vector<PlanCandidate> optimise(const Profile& profile, const OptimiseOptions& options,
                                    const std::function<void(const ProgramReport&)>& report);

/// The candidate with the least mean loss over lengths, where each loss is divided by the least loss at that length, or
/// by what is alike there when that is more: next to 0 a ratio says nothing.
size_t most_even(const std::vector<PlanCandidate>& candidates);

}  // namespace ballast::moa
