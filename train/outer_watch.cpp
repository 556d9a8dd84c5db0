#include "train/outer_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <system_error>
#include <utility>

#include "base/interrupt.h"
#include "base/process_state.h"
#include "train/hang_watch.h"

namespace ballast::train {
namespace {

/// What may be the cause, for a message.
std::string_view suspicion(WaitsFor waits_for) {
    return waits_for == WaitsFor::ranks ? "another rank was not started, hangs, or cannot be reached"
                                        : "a file system or a device may not answer";
}

/// How often the deadline an activity may take.
double patience(WaitsFor waits_for) {
    switch (waits_for) {
        case WaitsFor::nobody: return 1;
        case WaitsFor::ranks: return 2;
        case WaitsFor::reader: break;
    }
    return std::numeric_limits<double>::infinity();
}

}  // namespace

OuterWatch::OuterWatch(double timeout, End end) : timeout_(timeout), end_(std::move(end)) {
    if (timeout <= 0) return;
    try {
        watcher_ = std::thread([this] { watch(); });
    } catch (const std::system_error&) {  // HangWatch will warn of it
    }
}

void OuterWatch::end_all(Communicator& ranks, const std::string& report) { end_all_ranks(ranks)(report); }

void OuterWatch::enter(std::string_view activity, WaitsFor waits_for) {
    const std::lock_guard lock(mutex_);
    activity_ = activity;
    waits_for_ = waits_for;
    still_ = 0;
    if (paused_) part_ = "end";
    paused_ = false;
}

void OuterWatch::pause() {
    const std::lock_guard lock(mutex_);
    paused_ = true;
}

void OuterWatch::set_ranks(Communicator& ranks) {
    const std::lock_guard lock(mutex_);
    ranks_ = &ranks;
    rank_ = fmt::format("rank {}", ranks.rank());
}

void OuterWatch::leave_ranks() {
    const std::lock_guard lock(mutex_);
    ranks_ = &alone_;
}

void OuterWatch::stop() {
    sleep_.stop();
    if (watcher_.joinable()) watcher_.join();
}

void OuterWatch::watch() {
    leave_interrupts_to_main_thread();
    const double period = std::min(1.0, beat_interval(timeout_));
    TickingTime time(period, TickingTime::Clock::now());
    while (sleep_.sleep(period)) {
        const double seconds = time.tick(TickingTime::Clock::now());
        if (process_state(::getpid()) == ProcessState::traced) continue;
        if (const auto hang = judge(seconds)) return end_(*hang->ranks, hang->report);
    }
}

std::optional<OuterWatch::Hang> OuterWatch::judge(double seconds) {
    const std::lock_guard lock(mutex_);
    if (!paused_) still_ += seconds;
    if (paused_ || still_ <= patience(waits_for_) * timeout_) return std::nullopt;
    return Hang{ranks_,
                fmt::format("the {} hangs: {} ({}, process {}) has been {} for {:.0f} s; {}. Ended by "
                            "train.hang_timeout_seconds = {:g}",
                            part_, rank_, host_name(), ::getpid(), activity_, still_, suspicion(waits_for_), timeout_)};
}

}  // namespace ballast::train
