#include "base/task_thread.h"

#include <fmt/format.h>

#include <system_error>
#include <utility>

#include "base/log.h"

namespace ballast {
namespace {

/// What the task throws; null when it ends well.
std::exception_ptr error_of(const std::function<void()>& task) {
    try {
        task();
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}

}  // namespace

TaskThread::TaskThread() {
    try {
        thread_ = std::thread([this] { loop(); });
    } catch (const std::system_error& error) {
        log_warning(
            fmt::format("a thread could not be started ({}); its work is done in between", error.code().message()));
    }
}

TaskThread::~TaskThread() {
    if (!thread_.joinable()) return;
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void TaskThread::post(std::function<void()> task) {
    if (!thread_.joinable()) {
        if (!error_) error_ = error_of(task);
        return;
    }
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
        const std::exception_ptr thrown = skip ? nullptr : error_of(task);
        lock.lock();
        if (thrown) error_ = thrown;
        busy_ = false;
        changed_.notify_all();
    }
}

}  // namespace ballast
