// One CUDA thread.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/simt/host.h"
#include "kernels/simt/runtime/stack_switch.h"

namespace ballast::simt {

struct Warp;

struct Fiber {
    enum class State { runnable, waiting, done };

    StackSwitch registers;
    void* pages = nullptr;  ///< the stack with its guard page
    size_t page_bytes = 0;
    char* stack = nullptr;
    size_t stack_bytes = 0;
    void* fake_stack = nullptr;  ///< AddressSanitizer's, while the fiber is suspended
    void* tsan = nullptr;        ///< its identity in ThreadSanitizer

    uint3 index{};      ///< threadIdx
    unsigned rank = 0;  ///< … linear in the block
    Warp* warp = nullptr;
    unsigned lane() const { return rank % 32; }

    State state = State::runnable;
    const char* waits_in = "";  ///< what a deadlock report says
    Location waits_at;
    unsigned barriers_passed = 0;

    std::vector<AsyncCopy> copies;      ///< issued and not performed, oldest first
    std::vector<unsigned> copy_groups;  ///< sizes of the committed groups, oldest first
    unsigned uncommitted_copies = 0;

    struct TensorStores {
        unsigned groups = 0;       ///< committed
        unsigned groups_read = 0;  ///< … known to have read their tiles, which may then be reused or end with the block
        unsigned uncommitted = 0;
        Location last{};
        bool all_read() const { return groups_read == groups && uncommitted == 0; }
    } tensor_stores;
    char tensor_stores_done = 0;  ///< ThreadSanitizer's handle for their order
};

}  // namespace ballast::simt
