// Batches that make the loss or the gradient jump, and what is done about their updates.
//
// Of the last W updates that were applied, x_1 … x_n (n <= W) of a signal have the mean m = sum x / n and the standard
// deviation s, s^2 = sum (x - m)^2 / (n - 1). An update is a spike when its loss or the norm of its gradient is above
// m + z s of its own signal; while n < W / 2 none is. Both sums are taken anew from the values, in order, so that a
// resumed run has the same bits. What was not applied never enters the window, and so neither NaN nor a spike can widen
// it. Falls are no spikes: losses fall by nature.
//
// skip is OLMo-core's SkipStepOptimizer (both signals, z = 6, from half a window on). rollback is what PaLM did by hand
// (Chowdhery et al. 2022, section 5.1: back some 100 steps, 200 to 500 batches left out): the run goes back to the
// newest checkpoint and on with the batch after the spike. AdamW compares with the limits on the device, so a spike is
// never applied, and an update stays one recording.
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

/// What a checkpoint keeps of the guard.
struct SpikeState {
    std::vector<double> losses, norms;  // of the last updates that were applied, oldest first
    int64_t skipped_in_a_row = 0;       // up to the checkpoint's step
    int64_t rollbacks = 0;              // until the run is a window past the furthest spike that it went back from,
    int64_t furthest_spike = 0;         // the step of that

    bool operator==(const SpikeState&) const = default;
};

class SpikeGuard {
  public:
    /// More than these, and the fault is not the batch's.
    static constexpr int64_t kMostSkippedInARow = 10, kMostRollbacks = 10;

    explicit SpikeGuard(const SpikeConfig& config) : config_(config) {}

    /// Of the next update; infinite while none is a spike.
    struct Limits {
        double loss = ops::StepScalars::kNoLimit, norm = ops::StepScalars::kNoLimit;
    };
    Limits limits() const;
    /// Whether enough updates were seen.
    bool acts() const;

    void accept(int64_t step, double loss, double norm);
    /// RunError when it was one in a row too many.
    void skip();
    /// Goes on with the state of a checkpoint after a spike at `step`; counts the rollback. RunError when it was one
    /// too many, so that a run that comes no further ends.
    void roll_back(int64_t step, SpikeState saved);

    const SpikeState& state() const { return state_; }
    /// Of another window's length its last values.
    void restore(SpikeState state);

  private:
    void keep_window();

    SpikeConfig config_;
    SpikeState state_;
};

/// "norm 9.13 above 2.34", "loss not finite": why an update was a spike.
std::string why_spike(double loss, double norm, const SpikeGuard::Limits& limits);

}  // namespace ballast::train
