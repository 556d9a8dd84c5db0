#include "train/spike_guard.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace ballast::train {
namespace {

double limit_of(const std::vector<double>& values, double zscore) {
    const auto n = static_cast<double>(values.size());
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double squares = 0;
    for (const double x : values) squares += (x - mean) * (x - mean);
    return mean + zscore * std::sqrt(squares / (n - 1));
}

constexpr const char* kAdvice =
    "lower optimizer.learning_rate, raise train.spike_zscore, or set train.spike_action = \"none\", and --resume";

}  // namespace

bool SpikeGuard::acts() const {
    const auto n = static_cast<int64_t>(state_.losses.size());
    return config_.action != SpikeAction::none && n >= 2 && 2 * n >= config_.window;
}

SpikeGuard::Limits SpikeGuard::limits() const {
    if (!acts()) return {};
    return {limit_of(state_.losses, config_.zscore), limit_of(state_.norms, config_.zscore)};
}

void SpikeGuard::accept(int64_t step, double loss, double norm) {
    if (config_.action == SpikeAction::none) return;
    require(std::isfinite(loss) && std::isfinite(norm), "an update that is not finite was applied");
    state_.losses.push_back(loss);
    state_.norms.push_back(norm);
    state_.skipped_in_a_row = 0;
    if (step >= state_.furthest_spike + config_.window) state_.rollbacks = state_.furthest_spike = 0;
    keep_window();
}

void SpikeGuard::skip() {
    if (++state_.skipped_in_a_row > kMostSkippedInARow)
        throw RunError(fmt::format("{} updates in a row were spikes, which is no batch's fault any more; {}",
                                   state_.skipped_in_a_row, kAdvice));
}

void SpikeGuard::roll_back(int64_t step, SpikeState saved) {
    saved.rollbacks = state_.rollbacks + 1;
    saved.furthest_spike = std::max(state_.furthest_spike, step);
    restore(std::move(saved));
    if (state_.rollbacks > kMostRollbacks)
        throw RunError(fmt::format("after {} rollbacks the run has not come {} steps past step {}; {}", kMostRollbacks,
                                   config_.window, state_.furthest_spike, kAdvice));
}

void SpikeGuard::restore(SpikeState state) {
    state_ = std::move(state);
    keep_window();
}

void SpikeGuard::keep_window() {
    for (std::vector<double>* values : {&state_.losses, &state_.norms})
        if (const auto n = static_cast<int64_t>(values->size()); n > config_.window)
            values->erase(values->begin(), values->begin() + (n - config_.window));
}

std::string why_spike(double loss, double norm, const SpikeGuard::Limits& limits) {
    const auto why = [](const char* what, double value, double limit) {
        return std::isfinite(value) ? fmt::format("{} {:.4g} above {:.4g}", what, value, limit)
                                    : fmt::format("{} not finite", what);
    };
    return !std::isfinite(loss) || loss > limits.loss ? why("loss", loss, limits.loss) : why("norm", norm, limits.norm);
}

}  // namespace ballast::train
