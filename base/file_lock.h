// A lock file that one process holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace ballast {

/// An flock(2) on a lock file. The lock ends with its holder, however the holder ends. Some network file systems have
/// no flock(2): there take() warns, once for a folder, and succeeds, and held() is always false.
class FileLock {
  public:
    /// Locks `path` for this process; makes the file if it does not exist. Empty when another process holds the lock.
    static std::optional<FileLock> take(const std::string& path);
    /// True while some process holds `path`. The check takes a shared lock for a moment; take() waits until it is
    /// released.
    static bool held(const std::string& path);
    /// The process that holds `path`, as far as this machine knows: not one of another machine or container.
    static std::optional<int64_t> holder(const std::string& path);

    FileLock(FileLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
    FileLock& operator=(FileLock&& other) noexcept {
        std::swap(descriptor_, other.descriptor_);
        return *this;
    }
    ~FileLock();

  private:
    explicit FileLock(int descriptor) : descriptor_(descriptor) {}

    int descriptor_;
};

}  // namespace ballast
