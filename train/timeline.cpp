#include "train/timeline.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"

namespace ballast::train {
namespace {

/// Collectives of an update: what a bucket's span holds would be counted twice.
bool is_bucket(const Timeline::Event& event) {
    return event.track == Track::communication &&
           (event.place.activity == Activity::reduce_bucket || event.place.activity == Activity::gather_weights);
}
bool is_pass(const Timeline::Event& event) { return event.place.activity == Activity::pass; }

Timeline::Overlap overlap_of(const std::vector<Timeline::Event>& events) {
    Timeline::Overlap overlap;
    for (const auto& bucket : events) {
        if (!is_bucket(bucket)) continue;
        overlap.communication += bucket.end - bucket.begin;
        for (const auto& pass : events)
            if (is_pass(pass))
                overlap.hidden += std::max(0.0, std::min(bucket.end, pass.end) - std::max(bucket.begin, pass.begin));
    }
    return overlap;
}

}  // namespace

void Timeline::keep(size_t updates) {
    const std::lock_guard lock(mutex_);
    updates_kept_ = updates;
    updates_.clear();
}

void Timeline::begin_update() {
    if (!keeps_events()) return;
    const std::lock_guard lock(mutex_);
    updates_.emplace_back();
    if (updates_.size() > updates_kept_) updates_.pop_front();
}

double Timeline::now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

void Timeline::add(Track track, Place place, double begin, double end) {
    const std::lock_guard lock(mutex_);
    if (!updates_.empty()) updates_.back().push_back({track, place, begin, end});
}

Timeline::Overlap Timeline::overlap() const {
    const std::lock_guard lock(mutex_);
    std::vector<Overlap> all;
    for (const auto& events : updates_)
        if (const Overlap overlap = overlap_of(events); overlap.communication > 0) all.push_back(overlap);
    if (all.empty()) return {};
    const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
    std::nth_element(all.begin(), middle, all.end(),
                     [](const Overlap& a, const Overlap& b) { return a.communication < b.communication; });
    return *middle;
}

void Timeline::write(const std::string& path, int rank) const {
    const std::lock_guard lock(mutex_);
    auto events = nlohmann::ordered_json::array();
    const auto name_thread = [&](Track track, const char* name) {
        events.push_back({{"ph", "M"},
                          {"name", "thread_name"},
                          {"pid", rank},
                          {"tid", static_cast<int>(track)},
                          {"args", {{"name", name}}}});
    };
    name_thread(Track::compute, "compute");
    name_thread(Track::communication, "communication");
    name_thread(Track::saving, "saving");
    for (const auto& update : updates_)
        for (const Event& event : update)
            events.push_back({{"ph", "X"},
                              {"name", describe(event.place)},
                              {"pid", rank},
                              {"tid", static_cast<int>(event.track)},
                              {"ts", event.begin * 1e6},
                              {"dur", (event.end - event.begin) * 1e6}});
    write_file(path, nlohmann::ordered_json{{"displayTimeUnit", "ms"}, {"traceEvents", events}}.dump() + "\n");
}

}  // namespace ballast::train
