#include "base/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "base/error.h"

namespace ballast {
namespace {

constexpr std::string_view kMark = ".tmp-";  // then a number

/// UserError unless `path` is a regular file, or nothing yet. A rename would put a file in place of a device.
void require_replaceable(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
        if (errno != ENOENT) throw_errno("write", path);
    } else if (S_ISDIR(status.st_mode)) {
        errno = EISDIR;
        throw_errno("write", path);
    } else if (!S_ISREG(status.st_mode)) {
        throw UserError(fmt::format("cannot write {}: it is a device or a pipe; name a regular file", path));
    }
}

/// Where the symbolic links of `path` lead, whether a file is there or not.
std::string target_of(const std::string& path) {
    constexpr int kMostLinks = 40;  // as in Linux
    std::filesystem::path target = path;
    for (int i = 0; i < kMostLinks; ++i) {
        std::error_code not_a_link;
        const std::filesystem::path next = std::filesystem::read_symlink(target, not_a_link);
        if (not_a_link) return target.string();
        target = target.parent_path() / next;
    }
    errno = ELOOP;
    throw_errno("write", path);
}

bool is_temporary_name(std::string_view name) {
    const size_t mark = name.rfind(kMark);
    if (mark == std::string_view::npos) return false;
    const std::string_view number = name.substr(mark + kMark.size());
    return !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
}

/// False, with errno, when the disk refuses.
bool write_all(int descriptor, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(descriptor, text.data(), text.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        text.remove_prefix(static_cast<size_t>(written));
    }
    return true;
}

std::string temporary_name(const std::string& target, int number) {
    return fmt::format("{}{}{}", target, kMark, number);
}

/// A file that this process holds as long as it is open.
struct HeldFile {
    int descriptor;  // negative, with errno, when it cannot be had
    int number;      // at the end of its name
};

/// An empty temporary of `target` with the first number that no other writer has, on this machine or another. A file
/// that a killed writer left is used again, and emptied only once it is held. Where there are no locks nobody knows who
/// holds a file that is there, and it is left alone; so is what another user left.
HeldFile create_and_hold(const std::string& target) {
    constexpr int kTries = 10'000, kHow = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    int number = 1;
    for (int i = 0; i < kTries; ++i) {
        const std::string path = temporary_name(target, number);
        int descriptor = ::open(path.c_str(), kHow | O_CREAT | O_EXCL, 0666);
        const bool made = descriptor >= 0;
        if (!made && errno != EEXIST) return {-1, number};
        if (!made) descriptor = ::open(path.c_str(), kHow);
        if (descriptor < 0) {
            if (errno != ENOENT) ++number;
            continue;
        }
        const bool refused = ::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && (errno == EWOULDBLOCK || !made);
        struct stat held {
        }, named{};
        ::fstat(descriptor, &held);
        // Another writer may have removed or renamed it between its making and the lock: then once more.
        const bool named_so = ::stat(path.c_str(), &named) == 0 && named.st_ino == held.st_ino;
        if (!refused && named_so && (held.st_size == 0 || ::ftruncate(descriptor, 0) == 0)) return {descriptor, number};
        ::close(descriptor);
        if (refused) ++number;
    }
    errno = EWOULDBLOCK;
    return {-1, number};
}

/// Removes what writers that were killed beside another one left under the next numbers. Asked for by name: a folder of
/// very many files takes long to list.
void remove_abandoned_after(const std::string& target, int number) {
    for (;;) {
        const std::string path = temporary_name(target, ++number);
        const int descriptor = ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (descriptor < 0) return;
        if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
        ::close(descriptor);
    }
}

/// A rename is on the disk only when its folder is.
void sync_folder_of(const std::string& path) {
    const std::filesystem::path parent = std::filesystem::path(path).parent_path();
    sync_folder(parent.empty() ? "." : parent.string());
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
    require_replaceable(path_);
    target_ = target_of(path_);
    const HeldFile held = create_and_hold(target_);
    if (held.descriptor < 0) throw_errno("write", path_);
    descriptor_ = held.descriptor;
    temporary_path_ = temporary_name(target_, held.number);
    remove_abandoned_after(target_, held.number);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::write(const void* data, size_t bytes) {
    if (!write_all(descriptor_, {static_cast<const char*>(data), bytes})) throw_errno("write", path_);
}

void AtomicFile::commit() {
    require(descriptor_ >= 0, "commit() after commit() or discard()");
    if (::fsync(descriptor_) != 0) throw_errno("write", path_);
    if (::rename(temporary_path_.c_str(), target_.c_str()) != 0) throw_errno("write", path_);
    ::close(std::exchange(descriptor_, -1));
    sync_folder_of(target_);
}

void AtomicFile::remove_old() {
    if (::unlink(target_.c_str()) == 0) return sync_folder_of(target_);
    if (errno != ENOENT) throw_errno("replace", path_);
}

void AtomicFile::discard() noexcept {
    if (descriptor_ < 0) return;
    // Truncated first: a library that still holds the file open may need room to close it.
    [[maybe_unused]] const int ignored = ::ftruncate(descriptor_, 0);
    ::unlink(temporary_path_.c_str());
    ::close(std::exchange(descriptor_, -1));
}

void make_folders(const std::string& folder) {
    std::vector<std::filesystem::path> missing;
    std::error_code error;
    for (std::filesystem::path path = std::filesystem::absolute(folder).lexically_normal();
         !std::filesystem::exists(path, error) && path.has_relative_path(); path = path.parent_path())
        missing.push_back(path);
    std::filesystem::create_directories(folder, error);
    if (error) throw UserError(fmt::format("cannot make the folder {}: {}", folder, error.message()));
    for (const auto& path : missing)
        if (path.has_filename()) sync_folder_of(path.string());
}

void sync_folder(const std::string& folder) {
    const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) throw_errno("open", folder);
    const int result = ::fsync(descriptor);
    const int error = errno;
    ::close(descriptor);
    errno = error;
    // Some network file systems cannot sync a folder; there a name is as durable as they make it.
    if (result != 0 && error != EINVAL && error != EROFS) throw_errno("flush", folder);
}

void require_writable(const std::string& path) { const AtomicFile opened(path); }

void require_not_an_input(const std::string& output, std::span<const std::string> inputs) {
    for (const std::string& input : inputs) {
        std::error_code missing;  // then they cannot be the same
        if (std::filesystem::equivalent(output, input, missing))
            throw UserError(
                fmt::format("cannot write {}: it is the input {} itself; choose another output", output, input));
    }
}

bool same_place(const std::string& a, const std::string& b) {
    const auto place_of = [](const std::string& path) {
        std::error_code error;
        const std::filesystem::path target = std::filesystem::absolute(target_of(path), error);
        std::filesystem::path found = std::filesystem::weakly_canonical(target, error);
        if (error) found = target.lexically_normal();  // whoever opens it is told why
        return found.has_filename() ? found : found.parent_path();
    };
    return place_of(a) == place_of(b);
}

void require_different_outputs(const std::vector<Output>& outputs) {
    for (size_t i = 0; i < outputs.size(); ++i)
        for (size_t j = 0; j < i; ++j)
            if (!outputs[i].path.empty() && !outputs[j].path.empty() && same_place(outputs[i].path, outputs[j].path))
                throw UserError(fmt::format("{} and {} name the same file, {}; choose another for one of them",
                                            outputs[j].option, outputs[i].option, outputs[i].path));
}

void remove_abandoned_temporaries(const std::string& folder) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
        if (is_temporary_name(entry.path().filename().string())) std::filesystem::remove(entry.path(), error);
    }
}

void write_file(const std::string& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

void replace_file(const std::string& path, std::string_view text) {
    const std::string temporary = fmt::format("{}{}{}", path, kMark, ::getpid());
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor < 0) throw_errno("write", path);
    const bool written = write_all(descriptor, text);
    const int error = errno;
    ::close(descriptor);
    if (written && ::rename(temporary.c_str(), path.c_str()) == 0) return;
    const int reason = written ? errno : error;
    ::unlink(temporary.c_str());
    errno = reason;
    throw_errno("write", path);
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

std::vector<std::string> entries_of(const std::string& folder) {
    std::vector<std::string> found;
    std::error_code error;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
        found.push_back(entry->path().string());
    if (!error || error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory) return found;
    errno = error.value();
    throw_errno("read the folder", folder);
}

}  // namespace ballast
