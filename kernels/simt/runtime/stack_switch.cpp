#include "kernels/simt/runtime/stack_switch.h"

#include <cstdint>

namespace ballast::simt {

#if defined(__x86_64__)

// The System V ABI's callee-saved registers go onto the old stack and come from the new one. The end is a jump, not a
// `ret`: the processor predicts returns from a stack of its own that knows nothing of this one (16 ns instead of 8).
extern "C" void ballast_simt_switch(void** save, void* load);
asm(R"(
.text
.globl ballast_simt_switch
.type ballast_simt_switch,@function
ballast_simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmp *%rcx
.size ballast_simt_switch, .-ballast_simt_switch
)");

void StackSwitch::prepare(char* stack, std::size_t bytes, void (*entry)()) {
    constexpr int kSavedRegisters = 6;
    auto* top = reinterpret_cast<std::uintptr_t*>(stack + bytes / 16 * 16);
    *--top = 0;  // entry()'s return address, 8 below a multiple of 16 as after a call; 0 ends a debugger's walk
    *--top = reinterpret_cast<std::uintptr_t>(entry);
    for (int i = 0; i < kSavedRegisters; ++i) *--top = 0;
    stack_pointer_ = top;
}

void StackSwitch::switch_to(StackSwitch& to) { ballast_simt_switch(&stack_pointer_, to.stack_pointer_); }

#else

void StackSwitch::prepare(char* stack, std::size_t bytes, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
}

void StackSwitch::switch_to(StackSwitch& to) { swapcontext(&context_, &to.context_); }

#endif

}  // namespace ballast::simt
