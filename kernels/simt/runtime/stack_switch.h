// Leaving one stack for another: what a fiber is made of.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace ballast::simt {

/// The registers of code that stands still. On x86-64 a switch is 14 instructions of ours (about 8 ns); elsewhere it is
/// ucontext's, which asks the kernel for the signal mask each time.
class StackSwitch {
  public:
    /// The next switch to this one calls entry() on the given stack. entry() must never return.
    void prepare(char* stack, std::size_t bytes, void (*entry)());
    /// Saves the running code here and goes on with `to`.
    void switch_to(StackSwitch& to);

  private:
#if defined(__x86_64__)
    void* stack_pointer_ = nullptr;
#else
    ucontext_t context_{};
#endif
};

}  // namespace ballast::simt
