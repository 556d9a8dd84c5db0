// A thread that runs tasks one after another.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace ballast {

/// Runs tasks in the order in which they were posted. After a task throws, the remaining tasks are dropped. When the
/// system refuses the thread, post() itself runs the task.
class TaskThread {
  public:
    TaskThread();
    /// Waits for all posted tasks.
    ~TaskThread();
    TaskThread(const TaskThread&) = delete;
    TaskThread& operator=(const TaskThread&) = delete;

    void post(std::function<void()> task);
    /// Returns when all posted tasks are done. Throws the exception that a task has thrown since the last call.
    void wait();

  private:
    void loop();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;
    bool busy_ = false, stop_ = false;
    std::exception_ptr error_;
    std::thread thread_;  // last: it uses the others; none where the system refuses it
};

}  // namespace ballast
