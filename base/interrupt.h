// Signals that are a wish to stop at the next good moment.
#pragma once

namespace ballast {

/// True after the first SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal went) or SIGUSR1 (a scheduler's warning) while a
/// guard is alive. Loops look at it between steps and save before leaving.
bool interrupted();

/// Catches these signals for its life, then restores what was there; made by the main thread, the only one to get them.
/// Those that the program was started to ignore (nohup, `trap '' INT`) stay ignored. The first signal sets
/// interrupted() and says so on standard error; a second SIGINT or SIGTERM ends the process at once, with 128 + the
/// signal's number. SIGHUP and SIGUSR1 never do: shells and schedulers send them twice, or after another.
class InterruptGuard {
  public:
    InterruptGuard();
    ~InterruptGuard();  // also forgets an interruption
    InterruptGuard(const InterruptGuard&) = delete;
    InterruptGuard& operator=(const InterruptGuard&) = delete;
};

/// Blocks the same signals in the calling thread, so that the main thread gets them.
void leave_interrupts_to_main_thread();

}  // namespace ballast
