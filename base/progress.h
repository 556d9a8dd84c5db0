// A progress bar on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace ballast {

/// Units a second, smoothed over about half a minute: short enough to follow a change of speed, long enough for the
/// time left not to jump. Until that much has passed it is the plain average.
class RateEstimate {
  public:
    explicit RateEstimate(int64_t done) : last_done_(done) {}

    /// `seconds` since the start, not decreasing.
    void update(double seconds, int64_t done);
    double per_second() const { return weight_ > 0 ? units_ / weight_ : 0; }

  private:
    double last_seconds_ = 0;
    int64_t last_done_;
    double units_ = 0;  // both decay with the age of what they count
    double weight_ = 0;
};

/// What a line shows.
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
/// Four figures at most: "417", "1.5k", "23.4M", "1.2G".
std::string format_count(double count);

/// Shown on standard error from the first update to finish() or the end of its life. One at a time, used by one thread.
class Progress {
  public:
    /// `total` = 0 when unknown; `done` > 0 when the work resumes in the middle.
    Progress(std::string label, int64_t total, std::string unit, int64_t done = 0);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void update(int64_t done);
    void add(int64_t count) { update(state_.done + count); }
    /// Shown at the end of the line from the next update on: the loss, for instance.
    void set_suffix(std::string suffix) { state_.suffix = std::move(suffix); }
    /// Draws the last state and leaves the line standing.
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
