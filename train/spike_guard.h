// Detects batches that make the loss or the gradient jump, and decides what to do with their updates.
//
// Take the last W updates that were applied: values x_1 … x_n (n <= W) of a signal have the mean m = sum x / n and the
// standard deviation s, s^2 = sum (x - m)^2 / (n - 1). An update is a spike when its loss, or the norm of its gradient,
// is above m + z s of that signal. While n < W / 2 there are no spikes. Both sums are recomputed from the values, in
// order, so that a resumed run has the same bits. Updates that were not applied never enter the window, so neither NaN
// nor a spike can widen it. Falling values are not spikes: losses normally fall.
//
// skip is OLMo-core's SkipStepOptimizer (both signals, z = 6, active after half a window). rollback automates what was
// done by hand for PaLM (Chowdhery et al. 2022, section 5.1: go back some 100 steps and skip 200 to 500 batches): the
// run returns to the newest checkpoint and continues with the batch after the spike. AdamW compares with the limits on
// the device, so a spike is never applied and an update stays one recording.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops.h"

namespace ballast::train {

enum class SpikeAction { none, skip, rollback };
inline constexpr std::array<std::string_view, 3> kSpikeActionNames{"none", "skip", "rollback"};

struct SpikeConfig {
    SpikeAction action = SpikeAction::none;
    double zscore = 6;
    int64_t window = 200;
};

/// The state of the guard in a checkpoint.
struct SpikeState {
    std::vector<double> losses, norms;  // of the last updates that were applied, oldest first
    int64_t skipped_in_a_row = 0;       // up to the checkpoint's step
    int64_t rollbacks = 0;              // reset when the run is a window past the furthest spike it went back from
    int64_t furthest_spike = 0;         // the step of that spike

    bool operator==(const SpikeState&) const = default;
};

class SpikeGuard {
  public:
    /// Above these numbers, the batch is not the cause of the spike.
    static constexpr int64_t kMostSkippedInARow = 10, kMostRollbacks = 10;

    explicit SpikeGuard(const SpikeConfig& config) : config_(config) {}

    /// The limits of the next update; infinite while no update can be a spike.
    struct Limits {
        double loss = ops::StepScalars::kNoLimit, norm = ops::StepScalars::kNoLimit;
    };
    Limits limits() const;
    /// True when enough updates were seen.
    bool acts() const;

    void accept(int64_t step, double loss, double norm);
    /// RunError when too many updates in a row were skipped.
    void skip();
    /// Continues with a checkpoint's state after a spike at `step`, and counts the rollback. RunError when there were
    /// too many, so that a run without progress ends.
    void roll_back(int64_t step, SpikeState saved);

    const SpikeState& state() const { return state_; }
    /// A state from a longer window keeps its last values.
    void restore(SpikeState state);

  private:
    void keep_window();

    SpikeConfig config_;
    SpikeState state_;
};

/// The reason why an update was a spike: "norm 9.13 above 2.34", "loss not finite".
std::string why_spike(double loss, double norm, const SpikeGuard::Limits& limits);

}  // namespace ballast::train
