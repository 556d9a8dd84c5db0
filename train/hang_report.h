// Whether ranks hang, and who is to blame.
//
// Ranks of a step wait for each other, so when one hangs all soon stand still. A rank stands still when it has not
// moved for `timeout` seconds times the patience of its place (train/place.h). A run hangs when every rank stands still
// or gives no sign of life: while one moves (rank 0 validates, say) the others may wait for it as long as it takes. Who
// is to blame, in this order: ranks without a sign of life; ranks that stand still outside a collective; else all wait
// in collectives, in the same one (the network) or in several (ranks that went different ways).
#pragma once

#include <optional>
#include <span>
#include <string>

#include "train/heartbeat.h"

namespace ballast::train {

/// What one rank knows of another, or of itself.
struct RankView {
    int rank = 0;
    std::optional<Heartbeat> last;  // none: it could not be read, or the rank has ended well
    double silent = 0;              // seconds without a new heartbeat, as the looking rank counts them; 0 of itself
    std::string process;            // what its process is doing where that can be seen ("is stopped"), else empty
};

/// Heartbeats come at this distance, seconds.
double beat_interval(double timeout);
/// Without one for so long a rank gives no sign of life, seconds.
double longest_silence(double timeout);

/// One line that names who hangs, where and for how long, and where the others wait; none while the run does not hang,
/// or a debugger has one of the ranks.
std::optional<std::string> hang_report(std::span<const RankView> ranks, double timeout);

/// The rank that is to report a hang, the first with a sign of life; -1: none has one.
int speaker(std::span<const RankView> ranks, double timeout);

}  // namespace ballast::train
