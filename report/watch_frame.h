// The display of `ballast watch`: runs while they train.
#pragma once

#include <string>
#include <vector>

#include "report/metrics_log.h"
#include "report/rank_lines.h"

namespace ballast::report {

struct WatchedRun {
    std::string label, state;  // "running", "not there yet", …
    int64_t steps = 0;         // of the whole run; 0: unknown
    MetricsLog log;
    std::vector<SeenRank> ranks = {};  // while it runs
};

struct FrameSize {
    int columns = 80, rows = 24;
    bool colour = false;
};

/// A table of the runs, where their ranks are, their losses over steps (o: validation) and, where there is room, tokens per second, learning
/// rate and gradient norm. At most `rows` lines of at most `columns` characters, not counting escape codes.
std::vector<std::string> draw_frame(const std::vector<WatchedRun>& runs, const FrameSize& size);

/// Seconds until the last step at the pace of the newest steps; negative when unknown.
double seconds_left(const WatchedRun& run);

}  // namespace ballast::report
