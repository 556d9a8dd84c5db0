#include "train/hang_watch.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/ending.h"
#include "base/interrupt.h"
#include "base/process_state.h"

namespace ballast::train {
namespace {

using Clock = TickingTime::Clock;

/// Seconds that others leave the rank that is to speak, and the end that it brings about.
constexpr double kGrace = 10;

std::string_view describe(ProcessState state) {
    switch (state) {
        case ProcessState::gone: return "is gone";
        case ProcessState::stopped: return "is stopped (SIGSTOP or Ctrl-Z)";
        case ProcessState::waiting_for_disk: return "waits for a disk or a network file system";
        case ProcessState::unknown:
        case ProcessState::traced:
        case ProcessState::running: break;
    }
    return "";
}

}  // namespace

double TickingTime::tick(Clock::time_point now) {
    const double passed = std::chrono::duration<double>(now - std::exchange(last_, now)).count();
    return std::min(passed, longest_);
}

HangWatch::HangWatch(const CurrentPlaces& places, const Communicator& ranks, const std::string& run_folder,
                     double timeout, End end)
    : places_(places), ranks_(ranks), folder_(run_folder), timeout_(timeout), end_(std::move(end)) {
    own_.rank = ranks.rank();
    own_.host = host_name();
    own_.pid = ::getpid();
    for (int rank = 0; rank < ranks.size(); ++rank) others_.push_back({rank, std::nullopt, 0, ""});
    try {
        watcher_ = std::thread([this] { watch(); });
        beater_ = std::thread([this] { beat(); });
    } catch (const std::system_error&) {  // one alone would take the other's silence for a folder that hangs
        stop_threads();
    }
}

HangWatch::~HangWatch() {
    stop_threads();
    folder_.remove(own_.rank);
}

void HangWatch::stop_threads() {
    sleep_.stop();
    for (std::thread* thread : {&watcher_, &beater_})
        if (thread->joinable()) thread->join();
}

void HangWatch::watch() {
    leave_interrupts_to_main_thread();
    const double period = std::min(1.0, beat_interval(timeout_));
    TickingTime time(period, Clock::now());
    while (sleep_.sleep(period)) {
        const double seconds = time.tick(Clock::now());
        look(seconds);
        const auto report = judge(seconds);
        if (!report) continue;
        end_(
            fmt::format("the run hangs: {}. Ended by train.hang_timeout_seconds = {:g}; --resume goes on from the last "
                        "checkpoint",
                        *report, timeout_));
        return;
    }
}

void HangWatch::look(double seconds) {
    const Whereabouts now = places_.now();
    const bool debugger = process_state(own_.pid) == ProcessState::traced;
    const std::lock_guard lock(mutex_);
    own_.step = now.step;
    own_.place = now.decisive();
    own_.debugger = debugger;
    own_.still = stillness_.count(now.moves, seconds);
    since_beat_ += seconds;
}

void HangWatch::beat() {
    leave_interrupts_to_main_thread();
    const double interval = beat_interval(timeout_);
    TickingTime time(interval, Clock::now());
    // A run of one process that ends at once leaves its folder alone.
    if (ranks_.size() > 1) write_beat();
    while (sleep_.sleep(interval)) {
        const double still = write_beat(), seconds = time.tick(Clock::now());
        if (ranks_.size() > 1 && still >= timeout_ / 2)
            look_at_others(seconds);
        else
            forget_others();
        const std::lock_guard lock(mutex_);
        since_beat_ = 0;
    }
}

double HangWatch::write_beat() {
    Heartbeat own;
    {
        const std::lock_guard lock(mutex_);
        ++own_.beat;
        own = own_;
    }
    folder_.write(own);
    return own.still;
}

void HangWatch::forget_others() {
    const std::lock_guard lock(mutex_);
    for (RankView& view : others_) view = {view.rank, std::nullopt, 0, ""};
}

void HangWatch::look_at_others(double seconds) {
    for (int rank = 0; rank < ranks_.size(); ++rank) {
        if (rank == own_.rank) continue;
        std::optional<Heartbeat> last = folder_.read(rank);
        RankView view{rank, std::nullopt, 0, ""};
        {
            const std::lock_guard lock(mutex_);
            view = others_[static_cast<size_t>(rank)];
        }
        const bool same = last && view.last && last->pid == view.last->pid && last->beat == view.last->beat;
        view.silent = same ? view.silent + seconds : 0;
        view.process = "";
        if (same && last->host == own_.host) {
            const ProcessState state = process_state(last->pid);
            last->debugger = last->debugger || state == ProcessState::traced;
            view.process = describe(state);
        }
        view.last = std::move(last);
        const std::lock_guard lock(mutex_);
        others_[static_cast<size_t>(rank)] = std::move(view);
    }
}

std::vector<RankView> HangWatch::views() const {
    std::vector<RankView> all = others_;
    if (!folder_answers())
        for (RankView& view : all) view.last = std::nullopt;  // what was read is too old
    all[static_cast<size_t>(own_.rank)] = {own_.rank, own_, 0, ""};
    return all;
}

std::optional<std::string> HangWatch::judge(double seconds) {
    const std::lock_guard lock(mutex_);
    const std::vector<RankView> all = views();
    // Who waits for others and cannot see them gives them more time.
    const bool blind = !folder_answers() && is_collective(own_.place.activity);
    std::optional<std::string> report = hang_report(all, blind ? 3 * timeout_ : timeout_);
    overdue_ = report ? overdue_ + seconds : 0;
    const double grace = speaker(all, timeout_) == own_.rank ? 0 : kGrace;
    if (overdue_ <= grace) return std::nullopt;
    if (!folder_answers()) *report += fmt::format("; the run's folder has not answered for {:.0f} s", since_beat_);
    return report;
}

HangWatch::End end_all_ranks(Communicator& ranks) {
    return [&ranks](const std::string& report) {
        const std::string line = fmt::format("\nballast: error: {}\n", report);
        pollfd output{STDERR_FILENO, POLLOUT, 0};
        if (::poll(&output, 1, 2000) > 0) {  // its reader may be what hangs
            [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, line.data(), line.size());
        }
        // MPI is in use by the thread that hangs; should it not end the ranks, the launcher does when one is gone.
        try {
            std::thread([&ranks] {
                ranks.abort(exit_code::kFailed);
                ::_exit(exit_code::kFailed);
            }).detach();
            std::this_thread::sleep_for(std::chrono::seconds(10));
        } catch (const std::system_error&) {  // no thread to be had: this rank goes, and the launcher ends the others
        }
        ::_exit(exit_code::kFailed);
    };
}

}  // namespace ballast::train
