// Ends a rank whose start hangs: in MPI, in NCCL, at a file, or because another rank does not come. There is no run
// folder yet in which train/hang_watch.h could see the other ranks, so each rank watches itself.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "base/communicator.h"
#include "train/stoppable_sleep.h"

namespace ballast::train {

/// Whom an activity of the start may wait for. A rank that waits for others has twice the time, so that the one at
/// fault, while it lives, speaks first. There is no deadline for a reader of the output.
enum class WaitsFor { nobody, ranks, reader };

class StartWatch {
  public:
    /// Called on the watch's thread when the start hangs. It must end the process.
    using End = std::function<void(Communicator& ranks, const std::string& report)>;

    /// `timeout`: the seconds that an activity may take; 0: for ever. Time is counted as in HangWatch. Where the system
    /// refuses a thread there is no watch.
    explicit StartWatch(double timeout, End end = end_all);
    ~StartWatch() { stop(); }
    StartWatch(const StartWatch&) = delete;
    StartWatch& operator=(const StartWatch&) = delete;

    /// The rank begins `activity`, "opening the data"; the text must outlive the watch.
    void enter(std::string_view activity, WaitsFor waits_for);
    /// MPI has started. `ranks` must outlive the watch, or its stop().
    void set_ranks(Communicator& ranks);
    /// The start is over.
    void stop();

  private:
    static void end_all(Communicator& ranks, const std::string& report);
    void watch();
    /// The report to end the run with, if it hangs.
    std::optional<std::string> judge(double seconds);

    double timeout_;
    End end_;
    Communicator alone_;  // until MPI has started

    StoppableSleep sleep_;
    std::mutex mutex_;  // protects the members below
    Communicator* ranks_ = &alone_;
    std::string rank_ = "a rank";
    std::string_view activity_;
    WaitsFor waits_for_ = WaitsFor::reader;
    double still_ = 0;  // seconds in the activity

    std::thread watcher_;
};

}  // namespace ballast::train
