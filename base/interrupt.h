// Signals that ask the program to stop at the next good moment.
#pragma once

namespace ballast {

/// True after the first SIGINT (Ctrl-C), SIGTERM, SIGHUP (the terminal closed) or SIGUSR1 (a scheduler's warning) while
/// a guard is alive. Loops check it between steps and save before they return.
bool interrupted();

/// Catches these signals during its life, then restores the previous handlers. Must be made by the main thread, which
/// is the only thread that receives the signals. A signal that the program was started to ignore (nohup, `trap '' INT`)
/// stays ignored. The first signal sets interrupted() and prints a message on standard error. A second SIGINT, or a
/// second SIGTERM, ends the process at once with exit code 128 + the signal's number, but only a second after the
/// first: launchers send one wish twice within milliseconds. A second SIGHUP or SIGUSR1 does not: shells and schedulers
/// repeat these signals, or send them after another one.
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
