#include "base/interrupt.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string_view>

namespace ballast {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGUSR1};

/// Nanoseconds in which the same signal is the same wish. timeout(1) signals its child and then its child's group, and
/// a launcher's own signal comes beside the terminal's.
constexpr int64_t kRepeatedFor = 1'000'000'000;

std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");
/// When each came first, by now(); 0: it has not come.
std::array<std::atomic<int64_t>, kSignals.size()> first_seen;
static_assert(std::atomic<int64_t>::is_always_lock_free);
std::array<struct sigaction, kSignals.size()> previous;

/// The handler's own. oneDNN's generated kernels (2.6.3, sgemm) use the stack pointer as one more register into their
/// buffers, and a signal that comes meanwhile would be delivered onto the heap: Ctrl-C ended one training run in eight
/// with a corrupted heap.
alignas(64) std::array<std::byte, size_t{64} << 10> handler_stack;
stack_t previous_stack;

/// Nanoseconds, on a clock that nobody sets.
int64_t now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);  // one of the few calls that a handler may make
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

void take_signal(int signal) {
    const auto at = static_cast<size_t>(std::find(kSignals.begin(), kSignals.end(), signal) - kSignals.begin());
    int64_t first = 0;
    const bool again = !first_seen[at].compare_exchange_strong(first, now()) && now() - first >= kRepeatedFor;
    if (again && (signal == SIGINT || signal == SIGTERM)) ::_exit(128 + signal);
    if (flag.exchange(true)) return;
    constexpr std::string_view kMessage = "\nstopping at the next step; again, after a second, to stop at once\n";
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
}

void on_signal(int signal) {
    const int before = errno;  // of the call that was interrupted, which reads it after this
    take_signal(signal);
    errno = before;
}

}  // namespace

bool interrupted() { return flag.load(std::memory_order_relaxed); }

InterruptGuard::InterruptGuard() {
    flag = false;
    for (auto& one : first_seen) one = 0;
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART | SA_ONSTACK;  // reads and writes under way go on
    stack_t stack{};
    stack.ss_sp = handler_stack.data();
    stack.ss_size = handler_stack.size();
    ::sigaltstack(&stack, &previous_stack);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < kSignals.size(); ++i) {
        ::sigaction(kSignals[i], nullptr, &previous[i]);
        if (previous[i].sa_handler != SIG_IGN) ::sigaction(kSignals[i], &action, nullptr);
    }
}

InterruptGuard::~InterruptGuard() {
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &previous[i], nullptr);
    ::sigaltstack(&previous_stack, nullptr);
    flag = false;
}

void leave_interrupts_to_main_thread() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : kSignals) sigaddset(&signals, signal);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

}  // namespace ballast
