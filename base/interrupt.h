// Ctrl-C and SIGTERM as a wish to stop at the next good moment.
#pragma once

namespace ballast {

/// True after the first SIGINT or SIGTERM while a guard is alive. Loops look at it between steps and save before
/// leaving.
bool interrupted();

/// Catches both signals for its life, then restores what was there; made by the main thread, the only one to get them. The first sets interrupted() and says so on
/// standard error; the second ends the process at once, with 128 + the signal's number.
class InterruptGuard {
  public:
    InterruptGuard();
    ~InterruptGuard();  // also forgets an interruption
    InterruptGuard(const InterruptGuard&) = delete;
    InterruptGuard& operator=(const InterruptGuard&) = delete;
};

}  // namespace ballast
