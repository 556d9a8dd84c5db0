// Learning-rate schedules: warm-up, then a cosine to min_lr. Three by name, because published runs differ:
//
//   pythia     the schedule of Pythia (gpt-neox v1.0): after w warm-up steps of T,
//              lr = max(min_lr, lr_max/2 (1 + cos(pi (t-w)/T))), t capped at T. The cosine's period is T, not T - w,
//              and min_lr is a clamp, so 160m stays at min_lr for its last fifth.
//   corrected  gpt-neox after August 2023 (#1008): lr = min_lr + (lr_max - min_lr)/2 (1 + cos(pi (t-w)/(T-w))).
//   neox       today's gpt-neox: as corrected, with t = max(1, t) in the warm-up: the first update changes weights.
//
// Update k (1-based) uses the rate at t = k - 1, so with pythia and corrected the first update has rate 0.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace ballast::train {

enum class ScheduleKind { pythia, corrected, neox };

struct Schedule {
    ScheduleKind kind = ScheduleKind::pythia;
    double learning_rate = 6e-4;
    double min_learning_rate = 6e-5;
    double warmup_steps = 1430;  // may be a fraction, like warmup * train_iters in gpt-neox
    int64_t decay_steps = 143000;

    /// The rate at scheduler index t = 0, 1, ….
    double at(int64_t t) const;
    /// The rate of update k = 1, 2, ….
    double at_update(int64_t k) const { return at(k - 1); }
};

}  // namespace ballast::train
