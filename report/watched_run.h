// A run's folder, looked at again and again while it trains.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "report/watch_frame.h"

namespace ballast::report {

class RunWatcher {
  public:
    /// The folder need not be there yet.
    RunWatcher(std::string folder, std::string label);

    /// Reads what is new; true when anything changed.
    bool refresh();
    const WatchedRun& run() const { return run_; }
    /// True when nobody trains it any more: finished, interrupted, failed or killed.
    bool ended() const { return ended_; }

  private:
    bool read_metrics();
    std::string state();

    std::string folder_;
    WatchedRun run_;
    MetricsParser parser_;
    off_t read_ = 0;   // bytes of metrics.jsonl that were parsed
    ino_t inode_ = 0;  // resuming replaces the file by a shorter one
    bool ended_ = false;
};

}  // namespace ballast::report
