#include "data/spill_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "base/error.h"

namespace ballast::data {

SpillFile::SpillFile(const std::string& beside) {
    const auto parent = std::filesystem::path(beside).parent_path();
    folder_ = parent.empty() ? "." : parent.string();
    descriptor_ = ::open(folder_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);  // without a name to leave behind
    if (descriptor_ >= 0) return;
    std::string name = folder_ + "/.ballast-spill-XXXXXX";  // this file system has no such files
    descriptor_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (descriptor_ < 0) throw_errno("create a temporary file in", folder_);
    ::unlink(name.c_str());
}

SpillFile::~SpillFile() { ::close(descriptor_); }

void SpillFile::append(const void* data, size_t bytes) {
    for (auto* at = static_cast<const char*>(data); bytes > 0;) {
        const ssize_t written = ::write(descriptor_, at, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) throw_errno("write a temporary file in", folder_);
        at += written;
        bytes -= static_cast<size_t>(written);
        size_ += written;
    }
}

void SpillFile::read(int64_t offset, void* out, size_t bytes) const {
    require(offset >= 0 && offset + static_cast<int64_t>(bytes) <= size_, "read past the end of a spill file");
    for (auto* at = static_cast<char*>(out); bytes > 0;) {
        const ssize_t got = ::pread(descriptor_, at, bytes, offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw_errno("read a temporary file in", folder_);
        at += got;
        offset += got;
        bytes -= static_cast<size_t>(got);
    }
}

}  // namespace ballast::data
