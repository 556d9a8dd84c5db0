// A file that one process holds.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace ballast {

/// An flock(2) on a file made for it: gone with its holder, however that ends. Some network file systems have no
/// flock(2). There take() warns and succeeds, and nobody seems to hold anything.
class FileLock {
  public:
    /// Holds `path` for this process, making the file if need be; none when another process has it.
    static std::optional<FileLock> take(const std::string& path);
    /// True while some process holds `path`. Looks by taking a shared lock for a moment, which take() waits out.
    static bool held(const std::string& path);

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
