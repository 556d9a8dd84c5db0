// A file's bytes as memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace ballast {

/// A read-only mapping of a whole file during the object's life. Any thread may read it. Pages are loaded from the disk
/// when they are first touched. (Our files are replaced by rename and never shortened in place, so a mapping stays
/// valid.)
class MappedFile {
  public:
    /// UserError when the file cannot be opened or is not a regular file.
    explicit MappedFile(std::string path);
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&&) = delete;

    const std::string& path() const { return path_; }
    std::span<const std::byte> bytes() const { return bytes_; }

  private:
    std::string path_;
    std::span<const std::byte> bytes_;
};

}  // namespace ballast
