#include "base/task_thread.h"

#include <utility>

namespace ballast {

TaskThread::~TaskThread() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void TaskThread::post(std::function<void()> task) {
    {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
    }
    changed_.notify_all();
}

void TaskThread::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tasks_.empty() && !busy_; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void TaskThread::loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return stop_ || !tasks_.empty(); });
        if (tasks_.empty()) return;
        const std::function<void()> task = std::move(tasks_.front());
        tasks_.pop_front();
        busy_ = true;
        const bool skip = error_ != nullptr;
        lock.unlock();
        std::exception_ptr thrown;
        try {
            if (!skip) task();
        } catch (...) {
            thrown = std::current_exception();
        }
        lock.lock();
        if (thrown) error_ = thrown;
        busy_ = false;
        changed_.notify_all();
    }
}

}  // namespace ballast
