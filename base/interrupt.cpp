#include "base/interrupt.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <string_view>

namespace ballast {
namespace {

constexpr std::array kSignals{SIGINT, SIGTERM};

std::atomic<bool> flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may only touch lock-free atomics");
std::array<struct sigaction, kSignals.size()> previous;

void on_signal(int signal) {
    if (flag.exchange(true)) ::_exit(128 + signal);
    constexpr std::string_view kMessage = "\nstopping at the next step; again to stop at once\n";
    [[maybe_unused]] const ssize_t ignored = ::write(STDERR_FILENO, kMessage.data(), kMessage.size());
}

}  // namespace

bool interrupted() { return flag.load(std::memory_order_relaxed); }

InterruptGuard::InterruptGuard() {
    flag = false;
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;  // reads and writes under way go on
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &action, &previous[i]);
}

InterruptGuard::~InterruptGuard() {
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &previous[i], nullptr);
    flag = false;
}

}  // namespace ballast
