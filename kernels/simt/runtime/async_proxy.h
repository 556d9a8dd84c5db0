// The engine behind TMA: mbarriers, and copies that happen as late as possible (or at a random moment), as if done by a
// separate thread, which CUDA calls the asynchronous proxy.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/hopper_host.h"
#include "kernels/simt/runtime/sanitizers.h"
#include "kernels/simt/runtime/shared_memory.h"

namespace ballast::simt {

struct Fiber;
class RunQueue;

/// A TMA operation that was issued and is not complete.
struct TensorCopy {
    host::TensorCopyKind kind;
    TensorLayout layout;
    std::array<int, kMaxTensorRank> coordinates{};
    char* tile;
    uint64_t* barrier;  ///< the barrier on which a load completes
    Fiber* owner;       ///< the thread that issued it
    unsigned group;     ///< for stores: the owner's group
    Location where;
    bool has_read = false;         ///< a store's tile is in `contents`
    std::vector<char> contents{};  ///< without swizzle
    char issued = 0;               ///< ThreadSanitizer's handle for the order

    bool is_load() const { return kind == host::TensorCopyKind::load; }
};

/// The view of ThreadSanitizer. Loads are written by an identity that knows what the issuing thread knew. Stores and
/// wgmma read with another identity, which knows ordinary writes only up to some fence.proxy.async; without the fence
/// there is a race, as on the GPU. The issuing threads must prove under their own identities that the reads come after
/// the writes.
class AsyncProxy {
  public:
    AsyncProxy() = default;
    ~AsyncProxy();
    AsyncProxy(const AsyncProxy&) = delete;
    AsyncProxy& operator=(const AsyncProxy&) = delete;

    /// Begins a block, after the events that the host released to `before`.
    void start_block(char* before);
    /// Ends a block: completes stores that have read their tiles, and orders the proxy's work before the host's work
    /// after acquire(after).
    void finish_block(char* after);
    /// Error when a load was never waited for.
    void check_end_of_block() const;

    // ---- mbarriers
    void initialise(uint64_t* barrier, unsigned count, Fiber& by);
    void fence_initialisations(const Fiber& by);
    void arrive(uint64_t* barrier, unsigned expected_bytes, RunQueue& queue, Location where);
    void wait(uint64_t* barrier, unsigned parity, Location where);
    /// One line for each barrier with a waiting thread.
    std::string describe_waits() const;

    // ---- copies
    void issue(std::unique_ptr<TensorCopy> copy, RunQueue& queue);
    /// Performs the oldest load; false when there is none. Call it when no thread can continue.
    bool perform_load(RunQueue& queue);
    /// Performs one step of a copy picked at random, if there is any.
    void perform_any(RunQueue& queue);
    void wait_for_stores(Fiber& owner, unsigned groups_to_keep, bool read);

    // ---- for ThreadSanitizer
    /// fence.proxy.async by the running thread.
    void fence() { release(&fenced_); }
    /// The proxy reads the memory that `note` notes, ordered before what follows an acquire(done).
    template <class Note>
    void read(const Note& note, char* done) {
        const ActingAs reader(reader_);
        acquire(&fenced_);
        acquire(&written_);
        note();
        release(done);
    }

  private:
    struct Waiter {
        uint64_t* barrier;
        Fiber* fiber;
    };

    char* order_of(const uint64_t* barrier, bool phase);
    void end_phase_if_due(uint64_t* barrier, RunQueue& queue);
    void complete_bytes(uint64_t* barrier, unsigned bytes, RunQueue& queue);
    void perform(size_t index, RunQueue& queue);
    void read_tile(TensorCopy& copy);
    void write(TensorCopy& copy);

    std::vector<std::unique_ptr<TensorCopy>> copies_;  ///< oldest first
    std::vector<Waiter> waiters_;
    std::vector<Waiter> unfenced_;  ///< barriers that were initialised and not yet fenced for the proxy
    struct Load {
        const uint64_t* barrier;
        Location where;
    };
    std::vector<Load> unseen_;  ///< loads on whose barrier no thread has waited since
    void* writer_ = nullptr;    ///< identities in ThreadSanitizer
    void* reader_ = nullptr;
    char fenced_ = 0, written_ = 0;
    std::vector<char> barrier_order_;  ///< by place in shared memory and phase
};

/// The address after swizzling: chunks of 16 bytes, permuted by the row of the pattern.
inline uintptr_t swizzled(uintptr_t address, Swizzle swizzle) {
    return address ^ (address >> 7 & ((1u << static_cast<unsigned>(swizzle)) - 1)) << 4;
}

}  // namespace ballast::simt
