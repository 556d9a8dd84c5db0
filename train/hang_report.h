// Decides whether ranks hang, and which rank is the cause.
//
// Ranks of a step wait for each other, so when one rank hangs all ranks soon stop. A rank has stopped when it has not
// moved for `timeout` seconds times the patience of its place (train/place.h). A run hangs when every rank has stopped
// or gives no sign of life: while one rank moves (for example rank 0 validates), the others may wait for it without
// limit. The cause is looked for in this order: ranks without a sign of life; ranks that stopped outside a collective;
// otherwise all ranks wait in collectives, either in the same one (the network) or in different ones (their control
// flow diverged).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "train/heartbeat.h"

namespace ballast::train {

/// The state of a rank as another rank, or the rank itself, knows it.
struct RankView {
    int rank = 0;
    std::optional<Heartbeat> last;  // empty: the heartbeat could not be read, or the rank has ended without error
    double silent = 0;              // seconds without a new heartbeat, as counted by the observing rank; 0 for itself
    std::string process;            // the state of its process where it is visible ("is stopped"), else empty
};

/// Seconds between heartbeats.
double beat_interval(double timeout);
/// Seconds without a heartbeat after which a rank gives no sign of life.
double longest_silence(double timeout);

/// One line that names the hanging ranks, their places and for how long, and where the other ranks wait. Empty while
/// the run does not hang, or when a debugger is attached to a rank.
std::optional<std::string> hang_report(std::span<const RankView> ranks, double timeout);

/// The rank that reports a hang: the first with a sign of life; -1 when there is none.
int speaker(std::span<const RankView> ranks, double timeout);

}  // namespace ballast::train
