// Ends a rank that hangs before or after its training: in MPI, in NCCL, at a file, or because another rank does not
// come. There is no run folder then in which train/hang_watch.h could see the other ranks, so each rank watches itself.
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

/// Whom an activity may wait for. A rank that waits for others has twice the time, so that the one at
/// fault, while it lives, speaks first. There is no deadline for a reader of the output.
enum class WaitsFor { nobody, ranks, reader };

class OuterWatch {
  public:
    /// Called on the watch's thread when the rank hangs. It must end the process.
    using End = std::function<void(Communicator& ranks, const std::string& report)>;

    /// `timeout`: the seconds that an activity may take; 0: for ever. Time is counted as in HangWatch. Where the system
    /// refuses a thread there is no watch.
    explicit OuterWatch(double timeout, End end = end_all);
    ~OuterWatch() { stop(); }
    OuterWatch(const OuterWatch&) = delete;
    OuterWatch& operator=(const OuterWatch&) = delete;

    /// The rank begins `activity`, "opening the data"; the text must outlive the watch. After a pause it is one of the
    /// end.
    void enter(std::string_view activity, WaitsFor waits_for);
    /// MPI has started. `ranks` must outlive the watch, its stop(), or leave_ranks().
    void set_ranks(Communicator& ranks);
    /// MPI is ended next. A rank that hangs in it ends itself; its launcher ends the others.
    void leave_ranks();
    /// The start is over, and train/hang_watch.h watches, until enter() is called again.
    void pause();
    void stop();

  private:
    static void end_all(Communicator& ranks, const std::string& report);
    void watch();
    struct Hang {
        Communicator* ranks;  // that are to end
        std::string report;
    };
    std::optional<Hang> judge(double seconds);

    double timeout_;
    End end_;
    Communicator alone_;  // until MPI has started

    StoppableSleep sleep_;
    std::mutex mutex_;  // protects the members below
    Communicator* ranks_ = &alone_;
    std::string rank_ = "a rank";
    std::string_view activity_;
    WaitsFor waits_for_ = WaitsFor::reader;
    bool paused_ = false;
    std::string_view part_ = "start";
    double still_ = 0;  // seconds in the activity

    std::thread watcher_;
};

}  // namespace ballast::train
