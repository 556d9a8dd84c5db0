// Ends a run that hangs, with one line that names the rank at fault and its place.
//
// A hung run costs as much as a run that trains, and nothing else ends it: a launcher only notices ranks that die.
// Every rank has two threads for this. One counts the time since the rank last moved and never touches a file. The
// other writes heartbeats; once the rank has not moved for half of the allowed time, it also reads the heartbeats of
// the other ranks (train/hang_report.h decides). So a rank also detects that its run folder does not respond.
//
// Time is counted in ticks of the observing thread, at most kLongestTick each. Hours in which the whole process was
// stopped (Ctrl-Z), the machine slept or a debugger held all threads count as one tick.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/communicator.h"
#include "train/hang_report.h"
#include "train/heartbeat.h"
#include "train/place.h"
#include "train/stoppable_sleep.h"

namespace ballast::train {

/// The seconds that pass for a thread that looks every `period` seconds.
class TickingTime {
  public:
    using Clock = std::chrono::steady_clock;
    TickingTime(double period, Clock::time_point now) : longest_(2 * period), last_(now) {}
    /// The seconds since the last call; a stop in between counts as two periods.
    double tick(Clock::time_point now);

  private:
    double longest_;
    Clock::time_point last_;
};

/// For how long a rank has not moved, in seconds.
class Stillness {
  public:
    /// `moves`: the rank's present count of moves; `seconds`: the time since the last call. Returns seconds without a
    /// move.
    double count(uint64_t moves, double seconds) {
        still_ = std::exchange(moves_, moves) == moves ? still_ + seconds : 0;
        return still_;
    }

  private:
    uint64_t moves_ = 0;
    double still_ = 0;
};

class HangWatch {
  public:
    /// Called on a thread of the watch when the run hangs. It must end the process.
    using End = std::function<void(const std::string& report)>;

    /// `timeout`: seconds, above 0. The referenced objects must outlive the watch. Where the system refuses one of its
    /// threads, the watch has none: is_watching() is false, and no heartbeats are written.
    HangWatch(const CurrentPlaces& places, const Communicator& ranks, const std::string& run_folder, double timeout,
              End end);
    /// Removes the rank's heartbeat: the rank has ended without error, or reports its error itself.
    ~HangWatch();
    HangWatch(const HangWatch&) = delete;
    HangWatch& operator=(const HangWatch&) = delete;

    bool is_watching() const { return watcher_.joinable(); }

  private:
    /// Ends the threads that run.
    void stop_threads();
    void watch();
    void beat();
    /// Updates the time for which the rank has not moved.
    void look(double seconds);
    /// Writes a heartbeat and returns the seconds for which the rank had not moved.
    double write_beat();
    void look_at_others(double seconds);
    void forget_others();
    bool folder_answers() const { return since_beat_ < timeout_ / 2; }
    /// The known state of all ranks, with the present state of this one.
    std::vector<RankView> views() const;
    /// The report to end the run with, if it hangs.
    std::optional<std::string> judge(double seconds);

    const CurrentPlaces& places_;
    const Communicator& ranks_;
    HeartbeatFolder folder_;
    double timeout_;
    End end_;

    StoppableSleep sleep_;
    mutable std::mutex mutex_;  // protects the members below
    Heartbeat own_;
    Stillness stillness_;
    std::vector<RankView> others_;
    double since_beat_ = 0;  // since the other thread returned from file access
    double overdue_ = 0;     // since this rank first knew of a hang

    std::thread watcher_, beater_;
};

/// The default reaction to a hang: prints the line on standard error, then ends all ranks with exit code 1. Nothing is
/// saved, closed or unwound, because the hanging threads may hold any lock.
HangWatch::End end_all_ranks(Communicator& ranks);

}  // namespace ballast::train
