// Ends a run that hangs, with one line that says which rank is to blame and where it is.
//
// A hung run costs as much as one that trains, and nothing else ends it: a launcher sees only ranks that die. Two
// threads of every rank look after that. One counts for how long the rank has stood still, and never touches a file;
// the other writes heartbeats and, once the rank has stood still for half of the time allowed, reads the others'
// (train/hang_report.h decides). So a rank whose run folder itself does not answer finds that out too.
//
// Time is counted in ticks of the thread that looks, at most kLongestTick each: hours in which the whole process was
// stopped (Ctrl-Z), the machine slept or a debugger held all threads are one tick.
#pragma once

#include <chrono>
#include <condition_variable>
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

namespace ballast::train {

/// Seconds that pass for a thread that looks every `period` seconds.
class TickingTime {
  public:
    using Clock = std::chrono::steady_clock;
    TickingTime(double period, Clock::time_point now) : longest_(2 * period), last_(now) {}
    /// Since the last call; a stop in between counts as two periods.
    double tick(Clock::time_point now);

  private:
    double longest_;
    Clock::time_point last_;
};

/// For how long a rank has stood still.
class Stillness {
  public:
    /// With its moves as they are now, and the seconds since the call before. Seconds.
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
    /// Told when the run hangs; is to end the process. On a thread of the watch.
    using End = std::function<void(const std::string& report)>;

    /// `timeout`: seconds, above 0. What it refers to outlives it.
    HangWatch(const CurrentPlaces& places, const Communicator& ranks, const std::string& run_folder, double timeout,
              End end);
    /// Takes the rank's heartbeat away: it has ended well, or says itself why not.
    ~HangWatch();
    HangWatch(const HangWatch&) = delete;
    HangWatch& operator=(const HangWatch&) = delete;

  private:
    void watch();
    void beat();
    /// False when the watch ends meanwhile.
    bool sleep(double seconds);
    /// Counts for how long the rank has stood still.
    void look(double seconds);
    /// Seconds that the rank had stood still.
    double write_beat();
    void look_at_others(double seconds);
    void forget_others();
    bool folder_answers() const { return since_beat_ < timeout_ / 2; }
    /// What is known of all ranks, this one as it is now.
    std::vector<RankView> views() const;
    /// What to end the run with.
    std::optional<std::string> judge(double seconds);

    const CurrentPlaces& places_;
    const Communicator& ranks_;
    HeartbeatFolder folder_;
    double timeout_;
    End end_;

    mutable std::mutex mutex_;  // of what follows
    std::condition_variable stopped_;
    bool stop_ = false;
    Heartbeat own_;
    Stillness stillness_;
    std::vector<RankView> others_;
    double since_beat_ = 0;  // since the other thread came back from the files
    double overdue_ = 0;     // since this rank has known of a hang

    std::thread watcher_, beater_;
};

/// What a run does about a hang: the line on standard error, then the end of all ranks with exit code 1. Nothing is
/// saved, closed or unwound, as the threads that hang may hold any lock.
HangWatch::End end_all_ranks(Communicator& ranks);

}  // namespace ballast::train
