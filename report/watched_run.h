// A run's folder that is read repeatedly while the run trains.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "report/watch_frame.h"

namespace ballast::report {

class RunWatcher {
  public:
    /// The folder need not exist yet.
    RunWatcher(std::string folder, std::string label);

    /// Reads new data; true when anything changed.
    bool refresh();
    const WatchedRun& run() const { return run_; }
    /// True when no process trains the run any more: it is finished, interrupted, failed or killed.
    bool ended() const { return ended_; }

  private:
    bool read_metrics();
    bool read_ranks();
    std::string state();

    std::string folder_;
    WatchedRun run_;
    MetricsParser parser_;
    off_t read_ = 0;   // bytes of metrics.jsonl parsed so far
    ino_t inode_ = 0;  // a resume replaces the file by a shorter one
    bool ended_ = false;
    std::chrono::steady_clock::time_point looked_at_ranks_{};
};

}  // namespace ballast::report
