// Switches from one stack to another; fibers are built on it.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace ballast::simt {

/// The registers of suspended code. On x86-64 a switch has 14 instructions of our own (about 8 ns). Elsewhere it uses
/// ucontext, which asks the kernel for the signal mask each time.
class StackSwitch {
  public:
    /// The next switch to this one calls entry() on the given stack. entry() must never return.
    void prepare(char* stack, std::size_t bytes, void (*entry)());
    /// Saves the running code here and continues with `to`.
    void switch_to(StackSwitch& to);

  private:
#if defined(__x86_64__)
    void* stack_pointer_ = nullptr;
#else
    ucontext_t context_{};
#endif
};

}  // namespace ballast::simt
