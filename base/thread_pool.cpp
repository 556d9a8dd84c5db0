#include "base/thread_pool.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/control_group.h"
#include "base/interrupt.h"
#include "base/log.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ballast {
namespace {

// Loops of a training step follow each other within microseconds, so a short spin saves most futex wake-ups (5–50 µs
// each); after that the thread sleeps, and an idle pool costs nothing.
constexpr int kSpins = 4000;

void relax() {
#if defined(__x86_64__)
    _mm_pause();
#endif
}

void wait_while_equal(const std::atomic<uint32_t>& value, uint32_t old) {
    for (int i = 0; i < kSpins; ++i) {
        if (value.load(std::memory_order_acquire) != old) return;
        relax();
    }
    value.wait(old, std::memory_order_acquire);
}

}  // namespace

int ThreadPool::available_cores() {
    cpu_set_t set;
    const int bound_to = sched_getaffinity(0, sizeof set, &set) == 0
                             ? CPU_COUNT(&set)
                             : static_cast<int>(std::thread::hardware_concurrency());
    return std::max(1, std::min(bound_to, ControlGroups().cores().value_or(bound_to)));
}

ThreadPool::ThreadPool(int num_threads) {
    const int n = num_threads > 0 ? num_threads : available_cores();
    workers_.reserve(static_cast<size_t>(n - 1));
    try {
        for (int i = 1; i < n; ++i) workers_.emplace_back([this] { worker_loop(); });
    } catch (const std::system_error& error) {
        log_warning(fmt::format("only {} of {} threads could be started ({}); going on with these", this->num_threads(),
                                n, error.code().message()));
    }
}

ThreadPool::~ThreadPool() {
    stop_.store(true);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (auto& worker : workers_) worker.join();
}

void ThreadPool::take_tasks() {
    try {
        for (int64_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) call_(function_, i);
    } catch (...) {
        next_.store(count_, std::memory_order_relaxed);  // the others stop at their next task
        std::lock_guard lock(error_mutex_);
        if (!error_) error_ = std::current_exception();
    }
}

void ThreadPool::worker_loop() {
    leave_interrupts_to_main_thread();  // it has a stack for their handler (interrupt.cpp)
    uint32_t seen = 0;
    for (;;) {
        wait_while_equal(generation_, seen);
        if (stop_.load()) return;
        seen = generation_.load(std::memory_order_acquire);
        take_tasks();
        if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
    }
}

void ThreadPool::run(int64_t count, Call call, void* function) {
    if (workers_.empty() || count <= 1) {
        for (int64_t i = 0; i < count; ++i) call(function, i);
        return;
    }
    call_ = call;
    function_ = function;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    busy_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    take_tasks();
    for (uint32_t left; (left = busy_.load(std::memory_order_acquire)) != 0;) wait_while_equal(busy_, left);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace ballast
