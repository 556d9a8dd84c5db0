// Runs the blocks of a launch one after another. Every CUDA thread is a fiber of the calling OS thread.
#pragma once

#include <array>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/options.h"
#include "kernels/simt/runtime/async_proxy.h"
#include "kernels/simt/runtime/fiber.h"
#include "kernels/simt/runtime/shared_memory.h"
#include "kernels/simt/runtime/warp.h"

namespace ballast::simt {

/// The runnable fibers, in the chosen order.
class RunQueue {
  public:
    void reset(Order order, uint64_t seed);
    void push(Fiber* fiber);
    Fiber* pop();  ///< nullptr when no fiber can run
    bool empty() const { return head_ == tail_; }
    uint64_t random();

  private:
    static constexpr unsigned kSize = 2048;  // a power of two, larger than a block's threads
    std::array<Fiber*, kSize> ring_{};
    unsigned head_ = 0, tail_ = 0;
    Order order_ = Order::forward;
    uint64_t random_state_ = 1;
};

/// __syncthreads() and the named barriers.
struct Barrier {
    unsigned arrived = 0, expected = 0, generation = 0;  ///< expected 0: every thread that has not exited
    int any = 0, all = 1, count = 0;
    struct Votes {
        int any, all, count;
    } result{};
    Location where;
    std::vector<Fiber*> waiting;
    char order[2]{};  ///< as Warp::sync_order
};

class Executor {
  public:
    Executor();
    ~Executor();
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;

    /// The executor of the calling OS thread, while it runs a launch.
    static Executor& current();
    static Executor* current_or_null();
    /// Takes an idle executor for the calling OS thread, or makes one.
    static Executor& enter();
    /// Returns it; orders the work of all its fibers before the host's next work.
    void leave();

    void prepare(dim3 block, size_t dynamic_bytes, void (*kernel)(void*), void* arguments);
    void run_block(uint3 block);

    Fiber& running() { return *running_; }
    SharedMemory& shared_memory() { return shared_memory_; }
    RunQueue& queue() { return queue_; }
    Barrier& barrier(int id) { return crew_->barriers.at(static_cast<size_t>(id)); }
    Fiber& fiber(unsigned rank) { return *crew_->fibers[rank]; }
    AsyncProxy& async_proxy() { return crew_->async_proxy; }

    /// Suspends the running fiber until it is pushed to the queue.
    void wait(const char* what, Location where);
    /// Lets the others go first.
    void yield();
    /// Completes the barrier if all its threads are here.
    void try_complete(Barrier& barrier);
    bool try_complete(Warp& warp, size_t meeting);

    /// "block (0,1,0) thread (17,0,0)"
    std::string describe(const Fiber& fiber) const;

  private:
    /// The fibers that run a block. Under ThreadSanitizer blocks alternate between two crews, so that nothing orders
    /// one block before the next: neither the identities of its threads nor the handles of their synchronisation.
    struct Crew {
        std::vector<std::unique_ptr<Fiber>> fibers;
        std::vector<Warp> warps;
        std::array<Barrier, 16> barriers;
        AsyncProxy async_proxy;
    };

    static void fiber_main();
    void prepare(Crew& crew, dim3 block);
    void start_block(uint3 block);
    void start_fiber(Fiber& fiber);
    void switch_to(Fiber& next, bool for_ever = false);
    void after_switch(Fiber& me);
    void exit_thread();
    void abandon_unfinished();
    void check_end_of_block();
    Fiber* next_to_run();
    std::string deadlock_report(uint3 block) const;

    Crew crews_[2];
    Crew* crew_ = crews_;
    SharedMemory shared_memory_;
    RunQueue queue_;
    Fiber host_;  ///< the OS thread itself
    Fiber* running_ = nullptr;
    unsigned threads_ = 0, alive_ = 0;
    size_t dynamic_bytes_ = 0;
    void (*kernel_)(void*) = nullptr;
    void* arguments_ = nullptr;
    std::exception_ptr error_;
    char before_kernel_ = 0, after_kernel_ = 0;
};

/// Throws Error with the line, the block and the thread.
[[noreturn]] void fail(const std::string& what, Location where);
bool same(const Location& a, const Location& b);
std::string text_of(const Location& where);

}  // namespace ballast::simt
