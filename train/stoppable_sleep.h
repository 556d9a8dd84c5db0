// How a thread waits that looks at something again and again until its owner ends it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace ballast::train {

class StoppableSleep {
  public:
    /// Seconds of sleep; false, at once, when stop() has been called before or meanwhile.
    bool sleep(double seconds) {
        std::unique_lock lock(mutex_);
        return !stopped_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return stop_; });
    }
    /// Ends all sleeps, also later ones.
    void stop() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        stopped_.notify_all();
    }

  private:
    std::mutex mutex_;
    std::condition_variable stopped_;
    bool stop_ = false;
};

}  // namespace ballast::train
