#include "train/loss_scaler.h"

#include <algorithm>

namespace ballast::train {

bool LossScaler::update(bool overflow) {
    if (!overflow) {
        if (++state_.good_updates >= config_.loss_scale_window) state_ = {2 * state_.scale, config_.hysteresis, 0};
        return true;
    }
    state_.good_updates = 0;
    if (state_.hysteresis > 1) {
        --state_.hysteresis;
        return true;
    }
    if (state_.scale <= config_.min_loss_scale) return false;
    state_.scale = std::max(state_.scale / 2, config_.min_loss_scale);
    return true;
}

}  // namespace ballast::train
