#include "data/spill_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/error.h"

namespace ballast::data {

/// Written at once: a call for each short document took a fifth of the time of preparing them.
constexpr size_t kCollectedBytes = size_t{256} << 10;

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
    const auto* from = static_cast<const char*>(data);
    if (collected_.size() + bytes > kCollectedBytes) {
        write(collected_.data(), collected_.size());
        collected_.clear();
        if (bytes > kCollectedBytes) return write(from, bytes);
    }
    collected_.insert(collected_.end(), from, from + bytes);
}

void SpillFile::write(const char* data, size_t bytes) {
    while (bytes > 0) {
        const ssize_t written = ::write(descriptor_, data, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) throw_errno("write a temporary file in", folder_);
        data += written;
        bytes -= static_cast<size_t>(written);
        written_ += written;
    }
}

void SpillFile::read(int64_t offset, void* out, size_t bytes) const {
    require(offset >= 0 && offset + static_cast<int64_t>(bytes) <= size(), "read past the end of a spill file");
    auto* to = static_cast<char*>(out);
    const int64_t end = offset + static_cast<int64_t>(bytes);
    while (offset < std::min(end, written_)) {
        const ssize_t got = ::pread(descriptor_, to, static_cast<size_t>(std::min(end, written_) - offset), offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw_errno("read a temporary file in", folder_);
        to += got;
        offset += got;
    }
    if (offset < end) std::memcpy(to, collected_.data() + (offset - written_), static_cast<size_t>(end - offset));
}

}  // namespace ballast::data
