#include "base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace ballast {
namespace {

constexpr std::string_view kMark = ".tmp-";  // then the process id

/// A rename is on the disk only when its folder is.
void sync_folder_of(const std::string& path) {
    const std::filesystem::path parent = std::filesystem::path(path).parent_path();
    const std::string folder = parent.empty() ? "." : parent.string();
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) throw_errno("open", folder);
    const int result = ::fsync(descriptor);
    const int error = errno;
    ::close(descriptor);
    errno = error;
    // Some network file systems cannot sync a folder; there the rename is as durable as they make it.
    if (result != 0 && error != EINVAL && error != EROFS) throw_errno("flush", folder);
}

}  // namespace

AtomicFile::AtomicFile(std::string path)
    : path_(std::move(path)), temporary_path_(fmt::format("{}{}{}", path_, kMark, ::getpid())) {
    // Not O_EXCL: in a container a crashed run's temporary often carries this very process id.
    descriptor_ = ::open(temporary_path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (descriptor_ < 0) throw_errno("write", path_);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::write(const void* data, size_t bytes) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t written = ::write(descriptor_, next, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) throw_errno("write", path_);
        next += written;
        bytes -= static_cast<size_t>(written);
    }
}

void AtomicFile::commit() {
    require(descriptor_ >= 0, "commit() after commit() or discard()");
    if (::fsync(descriptor_) != 0) throw_errno("write", path_);
    if (::rename(temporary_path_.c_str(), path_.c_str()) != 0) throw_errno("write", path_);
    ::close(std::exchange(descriptor_, -1));
    sync_folder_of(path_);
}

void AtomicFile::discard() noexcept {
    if (descriptor_ < 0) return;
    // Truncated first: a library that still holds the file open may need room to close it.
    [[maybe_unused]] const int ignored = ::ftruncate(descriptor_, 0);
    ::unlink(temporary_path_.c_str());
    ::close(std::exchange(descriptor_, -1));
}

void require_writable(const std::string& path) { const AtomicFile opened(path); }

void remove_abandoned_temporaries(const std::string& folder) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename().string();
        const size_t mark = name.rfind(kMark);
        if (mark == std::string::npos || mark + kMark.size() == name.size()) continue;
        if (name.find_first_not_of("0123456789", mark + kMark.size()) == std::string::npos)
            std::filesystem::remove(entry.path(), error);
    }
}

void write_file(const std::string& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

std::string read_file(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) throw_errno("read", path);
    std::string text;
    char buffer[1 << 16];
    for (;;) {
        const ssize_t count = ::read(descriptor, buffer, sizeof buffer);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) {
            const int error = errno;
            ::close(descriptor);
            errno = error;
            throw_errno("read", path);
        }
        if (count == 0) break;
        text.append(buffer, static_cast<size_t>(count));
    }
    ::close(descriptor);
    return text;
}

}  // namespace ballast
