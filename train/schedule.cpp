#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ballast::train {

double Schedule::at(int64_t step) const {
    const double T = static_cast<double>(decay_steps), w = warmup_steps, t = static_cast<double>(step);
    if (w > 0 && t <= w) return learning_rate * (kind == ScheduleKind::neox ? std::max(1.0, t) : t) / w;
    const double since = std::min(t, kind == ScheduleKind::pythia ? T - w : T) - w;
    if (kind == ScheduleKind::pythia)
        return std::max(min_learning_rate, learning_rate / 2 * (1 + std::cos(std::numbers::pi * since / T)));
    const double share = T > w ? since / (T - w) : 1.0;
    return min_learning_rate + (learning_rate - min_learning_rate) / 2 * (1 + std::cos(std::numbers::pi * share));
}

}  // namespace ballast::train
