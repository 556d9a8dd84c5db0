// Temporary storage on disk for data that exceed memory.
#pragma once

#include <cstdint>
#include <string>

namespace ballast::data {

/// A file without a name, so that nothing is left behind however the process ends. UserError with the system's reason
/// when the disk refuses.
class SpillFile {
  public:
    /// The file is on the same disk as `beside`, a path that need not exist.
    explicit SpillFile(const std::string& beside);
    ~SpillFile();
    SpillFile(const SpillFile&) = delete;
    SpillFile& operator=(const SpillFile&) = delete;

    void append(const void* data, size_t bytes);
    void read(int64_t offset, void* out, size_t bytes) const;
    int64_t size() const { return size_; }

  private:
    std::string folder_;
    int descriptor_ = -1;
    int64_t size_ = 0;
};

}  // namespace ballast::data
