// Our own thread pool: OpenMP's runtime gives false positives under ThreadSanitizer and spins when idle.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace ballast {

/// A fixed team of threads that runs numbered tasks. The caller divides work into tasks by the problem's shape alone,
/// never by the number of threads. So results do not depend on the number of threads.
class ThreadPool {
  public:
    /// `num_threads` includes the calling thread; 0 means every core that this process may use. When the system cannot
    /// create all threads, the pool warns and has fewer.
    explicit ThreadPool(int num_threads = 0);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

    /// Calls task(i) once for every i in [0, count), on any thread of the pool, the calling thread included. Returns
    /// when all calls are done. The first exception is rethrown here. Not reentrant: a task must not start another
    /// loop.
    template <class Task>
    void parallel_for(int64_t count, Task&& task) {
        using Function = std::remove_reference_t<Task>;
        run(
            count, [](void* f, int64_t i) { (*static_cast<Function*>(f))(i); },
            const_cast<void*>(static_cast<const void*>(&task)));
    }

    /// The number of cores that this process may use at a time (respects taskset, and cpusets and quotas of cgroups).
    static int available_cores();

  private:
    using Call = void (*)(void*, int64_t);
    void run(int64_t count, Call call, void* function);
    void worker_loop();
    void take_tasks();

    std::vector<std::thread> workers_;
    Call call_ = nullptr;
    void* function_ = nullptr;
    int64_t count_ = 0;
    std::atomic<int64_t> next_{0};
    std::atomic<uint32_t> generation_{0};  // incremented for a new loop, or for the end when stop_ is set
    std::atomic<uint32_t> busy_{0};        // workers still inside the current loop
    std::atomic<bool> stop_{false};
    std::mutex error_mutex_;
    std::exception_ptr error_;
};

}  // namespace ballast
