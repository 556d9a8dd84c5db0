// What a rank did when, in the last updates: to look at, and to see how much of the communication hides beside the
// backward pass.
#pragma once

#include <chrono>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

namespace ballast::train {

enum class Track { compute, communication };

/// Times in seconds since the timeline was made. Spans may be added by several threads.
class Timeline {
  public:
    struct Event {
        Track track;
        std::string name;
        double begin, end;
    };

    /// `updates`: as many are kept, the last.
    explicit Timeline(size_t updates) : updates_kept_(updates) {}

    void begin_update();
    double now() const;
    void add(Track track, std::string name, double begin, double end);

    /// Of an update, seconds.
    struct Overlap {
        double communication = 0;  // of its collectives, additions included
        double hidden = 0;         // of them, while passes ran
    };
    /// The median update's, by communication; none before an update has communicated.
    Overlap overlap() const;
    /// In Chrome's trace event format (JSON, microseconds), for chrome://tracing and Perfetto; `rank` is the process.
    void write(const std::string& path, int rank) const;

  private:
    using Clock = std::chrono::steady_clock;
    Clock::time_point start_ = Clock::now();
    size_t updates_kept_;
    mutable std::mutex mutex_;
    std::deque<std::vector<Event>> updates_;
};

/// Adds an event of its lifetime, where there is a timeline.
class Span {
  public:
    Span(Timeline* timeline, Track track, std::string name)
        : timeline_(timeline), track_(track), name_(std::move(name)), begin_(timeline ? timeline->now() : 0) {}
    ~Span() {
        if (timeline_) timeline_->add(track_, std::move(name_), begin_, timeline_->now());
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

  private:
    Timeline* timeline_;
    Track track_;
    std::string name_;
    double begin_;
};

}  // namespace ballast::train
