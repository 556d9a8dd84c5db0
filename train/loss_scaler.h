// Dynamic loss scaling (Micikevicius et al. 2018, section 3.2) by the rule that Pythia was trained with, DeepSpeed's
// DynamicLossScaler. Gradients in fp16 vanish below 2^-24. So the loss is multiplied by a scale that is as large as
// possible without overflow. After an overflow the update is skipped, and the next batch is tried.
#pragma once

#include <cmath>
#include <cstdint>

namespace ballast::train {

/// [fp16] of a run's configuration; the defaults are Pythia's.
struct Fp16Config {
    int64_t initial_scale_power = 12;
    int64_t loss_scale_window = 1000;
    int64_t hysteresis = 2;
    double min_loss_scale = 1;

    double initial_scale() const { return std::ldexp(1.0, static_cast<int>(initial_scale_power)); }
};

/// The state of the scaler in a checkpoint.
struct LossScalerState {
    double scale = 1;
    int64_t hysteresis = 1;    // an overflow halves the scale when this is 1, else it subtracts 1
    int64_t good_updates = 0;  // since the last overflow or doubling
};

class LossScaler {
  public:
    explicit LossScaler(const Fp16Config& config)
        : config_(config), state_{config.initial_scale(), config.hysteresis, 0} {}

    double scale() const { return state_.scale; }
    const LossScalerState& state() const { return state_; }
    void restore(const LossScalerState& state) { state_ = state; }

    /// To be called after a step whose update was applied (no overflow) or skipped. False when the scale would have to
    /// fall below its minimum: then the scale is not the cause of the overflow, and the run should end.
    [[nodiscard]] bool update(bool overflow);

  private:
    Fp16Config config_;
    LossScalerState state_;
};

}  // namespace ballast::train
