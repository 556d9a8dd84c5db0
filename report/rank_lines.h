// Where the ranks of a run are, in few lines of text: for `ballast watch`, from their heartbeats.
#pragma once

#include <string>
#include <vector>

#include "train/heartbeat.h"

namespace ballast::report {

/// A heartbeat, and the seconds since it was written.
struct SeenRank {
    train::Heartbeat last;
    double age = 0;

    /// Seconds since the rank moved, as far as is known.
    double still() const;
    /// Its heartbeats have stopped: it is dead, stopped, or its machine is gone.
    bool is_silent() const;
};

struct RankLine {
    std::string text;
    bool stands_out = false;  ///< of ranks that others may be waiting for
};

/// At most `most` lines, 1 or more; the last one counts the ranks that do not fit. Ranks that move are one line; ranks
/// that have not moved for a while are a line for each place they are at, the longest first. Those that stand out are
/// silent, or still outside a collective: in a collective a rank waits for others. Nothing without ranks.
std::vector<RankLine> describe_ranks(const std::vector<SeenRank>& ranks, size_t most);

}  // namespace ballast::report
