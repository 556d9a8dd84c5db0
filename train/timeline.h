// The present activity of a rank, and a record of the last updates. It shows how much of the communication overlaps
// with the backward pass, and where a run hangs (train/hang_watch.h).
#pragma once

#include <chrono>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "train/place.h"

namespace ballast::train {

/// Times in seconds since the timeline was made. Spans may be added by several threads.
class Timeline {
  public:
    struct Event {
        Track track;
        Place place;
        double begin, end;
    };

    /// Keeps the last `updates` updates. With 0 it only knows the rank's present place.
    explicit Timeline(size_t updates = 0) : updates_kept_(updates) {}
    /// Changes that number and drops the updates kept so far.
    void keep(size_t updates);
    bool keeps_events() const { return updates_kept_ > 0; }

    CurrentPlaces& places() { return places_; }

    void begin_update();
    double now() const;
    void add(Track track, Place place, double begin, double end);

    /// Seconds within one update.
    struct Overlap {
        double communication = 0;  // of its collectives, their additions included
        double hidden = 0;         // the part of it during passes
    };
    /// The values of the update with the median communication; empty before an update has communicated.
    Overlap overlap() const;
    /// Writes Chrome's trace event format (JSON, microseconds), for chrome://tracing and Perfetto; `rank` is the
    /// process.
    void write(const std::string& path, int rank) const;

  private:
    using Clock = std::chrono::steady_clock;
    CurrentPlaces places_;
    Clock::time_point start_ = Clock::now();
    size_t updates_kept_;
    mutable std::mutex mutex_;
    std::deque<std::vector<Event>> updates_;
};

/// Sets the track's place for the object's lifetime, then restores the previous place. No effect without a timeline.
class Span {
  public:
    Span(Timeline* timeline, Track track, Place place) : timeline_(timeline), track_(track), place_(place) {
        if (!timeline_) return;
        before_ = timeline_->places().enter(track_, place_);
        if (timeline_->keeps_events()) begin_ = timeline_->now();
    }
    ~Span() {
        if (!timeline_) return;
        if (timeline_->keeps_events()) timeline_->add(track_, place_, begin_, timeline_->now());
        timeline_->places().enter(track_, before_);
    }
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

  private:
    Timeline* timeline_;
    Track track_;
    Place place_, before_;
    double begin_ = 0;
};

}  // namespace ballast::train
