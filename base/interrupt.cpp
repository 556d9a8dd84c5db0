#include "base/interrupt.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <string_view>

namespace ballast {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM, SIGHUP, SIGUSR1};

std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");
std::array<std::atomic<bool>, kSignals.size()> seen;
std::array<struct sigaction, kSignals.size()> previous;

/// The handler's own. oneDNN's generated kernels (2.6.3, sgemm) use the stack pointer as one more register into their
/// buffers, and a signal that comes meanwhile would be delivered onto the heap: Ctrl-C ended one training run in eight
/// with a corrupted heap.
alignas(64) std::array<std::byte, size_t{64} << 10> handler_stack;
stack_t previous_stack;

void on_signal(int signal) {
    const auto at = static_cast<size_t>(std::find(kSignals.begin(), kSignals.end(), signal) - kSignals.begin());
    const bool again = seen[at].exchange(true);
    if (again && (signal == SIGINT || signal == SIGTERM)) ::_exit(128 + signal);
    if (flag.exchange(true)) return;
    constexpr std::string_view kMessage = "\nstopping at the next step; again to stop at once\n";
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
}

}  // namespace

bool interrupted() { return flag.load(std::memory_order_relaxed); }

InterruptGuard::InterruptGuard() {
    flag = false;
    for (auto& one : seen) one = false;
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
