// A progress bar on a terminal; elsewhere a plain line from time to time.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ballast {

/// Units per second, smoothed over about half a minute: short enough to follow a change of speed, long enough for a
/// steady estimate of the time left. Before half a minute has passed it is the plain average.
class RateEstimate {
  public:
    explicit RateEstimate(int64_t done) : last_done_(done) {}

    /// `seconds` since the start, not decreasing.
    void update(double seconds, int64_t done);
    double per_second() const { return weight_ > 0 ? units_ / weight_ : 0; }

  private:
    double last_seconds_ = 0;
    int64_t last_done_;
    double units_ = 0;  // both decay with the age of the units they count
    double weight_ = 0;
};

/// The contents of a progress line.
struct ProgressState {
    std::string label;
    std::string unit;
    std::string suffix;
    int64_t done = 0;
    int64_t total = 0;  // 0: unknown
    double per_second = 0;
    double elapsed = 0;  // seconds
    bool finished = false;
};

/// "train  42% [████    ] 420/1.0k steps  3.1 steps/s  3m12s left  loss 3.21": at most `width` columns; without a bar
/// when `width` is 0 (not a terminal).
std::string format_progress(const ProgressState& state, int width);

/// "7s", "3m12s", "2h05m", "3d04h".
std::string format_duration(double seconds);
/// At most four digits: "417", "1.5k", "23.4M", "1.2G".
std::string format_count(double count);

/// Shown on standard error from the first update until finish() or the destructor. One object at a time, used by one
/// thread.
class Progress {
  public:
    /// `total` = 0 when unknown; `done` > 0 when the work resumes in the middle.
    Progress(std::string label, int64_t total, std::string unit, int64_t done = 0);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void update(int64_t done);
    void add(int64_t count) { update(state_.done + count); }
    /// Text shown at the end of the line from the next update on, for example the loss.
    void set_suffix(std::string suffix) { state_.suffix = std::move(suffix); }
    /// Draws the final state and ends the line.
    void finish();

  private:
    using Clock = std::chrono::steady_clock;
    void draw();

    ProgressState state_;
    RateEstimate rate_;
    Clock::time_point start_ = Clock::now();
    Clock::time_point last_drawn_;
    bool terminal_;
};

}  // namespace ballast
