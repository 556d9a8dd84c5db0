// A file's bytes as memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace ballast {

/// A read-only mapping of a whole file, for as long as the object lives; any thread may read it. Pages come from the
/// disk when touched. (Our files are replaced by rename, never shortened in place, so a mapping stays valid.)
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
