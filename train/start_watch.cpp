#include "train/start_watch.h"

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

StartWatch::StartWatch(double timeout, End end) : timeout_(timeout), end_(std::move(end)) {
    if (timeout <= 0) return;
    try {
        watcher_ = std::thread([this] { watch(); });
    } catch (const std::system_error&) {  // HangWatch will warn of it
    }
}

void StartWatch::end_all(Communicator& ranks, const std::string& report) { end_all_ranks(ranks)(report); }

void StartWatch::enter(std::string_view activity, WaitsFor waits_for) {
    const std::lock_guard lock(mutex_);
    activity_ = activity;
    waits_for_ = waits_for;
    still_ = 0;
}

void StartWatch::set_ranks(Communicator& ranks) {
    const std::lock_guard lock(mutex_);
    ranks_ = &ranks;
    rank_ = fmt::format("rank {}", ranks.rank());
}

void StartWatch::stop() {
    sleep_.stop();
    if (watcher_.joinable()) watcher_.join();
}

void StartWatch::watch() {
    leave_interrupts_to_main_thread();
    const double period = std::min(1.0, beat_interval(timeout_));
    TickingTime time(period, TickingTime::Clock::now());
    while (sleep_.sleep(period)) {
        const double seconds = time.tick(TickingTime::Clock::now());
        if (process_state(::getpid()) == ProcessState::traced) continue;
        if (const auto report = judge(seconds)) return end_(*ranks_, *report);
    }
}

std::optional<std::string> StartWatch::judge(double seconds) {
    const std::lock_guard lock(mutex_);
    still_ += seconds;
    if (still_ <= patience(waits_for_) * timeout_) return std::nullopt;
    return fmt::format(
        "the start hangs: {} ({}, process {}) has been {} for {:.0f} s; {}. Ended by train.hang_timeout_seconds = {:g}",
        rank_, host_name(), ::getpid(), activity_, still_, suspicion(waits_for_), timeout_);
}

}  // namespace ballast::train
