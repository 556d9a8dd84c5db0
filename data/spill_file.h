// Temporary storage on disk for data that exceed memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

    /// Small pieces are collected in memory, so a full disk may be noticed by a later call.
    void append(const void* data, size_t bytes);
    void read(int64_t offset, void* out, size_t bytes) const;
    int64_t size() const { return written_ + static_cast<int64_t>(collected_.size()); }

  private:
    void write(const char* data, size_t bytes);

    std::string folder_;
    int descriptor_ = -1;
    int64_t written_ = 0;
    std::vector<char> collected_;  // what comes behind the file's end
};

}  // namespace ballast::data
