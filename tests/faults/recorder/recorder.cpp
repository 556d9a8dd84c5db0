// LD_PRELOADed into a program: records what it does to the files below BALLAST_RECORD_FOLDER into BALLAST_RECORD_LOG
// (log.h), so that a test can make what a disk would hold if the power had failed in between. Every call of libc that
// Ballast and HDF5 change files with is here; one lock makes the log's order that of the calls.
//
// With BALLAST_CLOCK_JUMPS the clock of the day jumps by up to a year, back and forth, whenever it is read.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "tests/faults/recorder/log.h"

namespace {

using namespace ballast::faults;

template <class Function>
Function next(const char* name) {
    return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

class Recorder {
  public:
    std::recursive_mutex mutex;

    Recorder() {
        const char *folder = std::getenv("BALLAST_RECORD_FOLDER"), *log = std::getenv("BALLAST_RECORD_LOG");
        if (folder == nullptr || log == nullptr) return;
        folder_ = folder;
        log_ = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    }

    /// The path below the folder, empty for the folder itself; none when it is elsewhere.
    std::optional<std::string> inside(int at, const char* path) const {
        if (log_ < 0 || path == nullptr) return std::nullopt;
        std::string full = path;
        if (full.empty() || full[0] != '/') {
            char base[PATH_MAX];
            const std::string link = at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(at);
            const ssize_t length = ::readlink(link.c_str(), base, sizeof base);
            if (length <= 0) return std::nullopt;
            full = std::string(base, static_cast<size_t>(length)) + "/" + full;
        }
        full = std::filesystem::path(full).lexically_normal();
        if (full.ends_with('/')) full.pop_back();
        if (full == folder_) return "";
        if (!full.starts_with(folder_ + "/")) return std::nullopt;
        return full.substr(folder_.size() + 1);
    }

    void put(Kind kind, uint32_t file, uint64_t offset, std::string_view path, std::string_view other = {}) {
        const Header header{kind, file, offset, static_cast<uint32_t>(path.size()), other.size()};
        std::string record(reinterpret_cast<const char*>(&header), sizeof header);
        record += path;
        record += other;
        for (size_t done = 0; done < record.size();) {
            const long written = ::syscall(SYS_write, log_, record.data() + done, record.size() - done);
            if (written < 0) ::abort();
            done += static_cast<size_t>(written);
        }
    }

    /// The number of an open file that is recorded; 0: it is not.
    uint32_t file_of(int descriptor) const {
        const auto found = files_.find(descriptor);
        return found == files_.end() ? 0 : found->second;
    }

    void opened(int descriptor, const std::string& path, bool was_there, int flags) {
        struct stat status {};
        if (::fstat(descriptor, &status) != 0) return;
        if (S_ISDIR(status.st_mode)) {
            folders_[descriptor] = path;
            return;
        }
        const std::pair key{status.st_dev, status.st_ino};
        uint32_t& number = numbers_[key];
        if (!was_there || number == 0) number = next_number();
        files_[descriptor] = number;
        put(was_there ? Kind::open : Kind::create, number, 0, path);
        if (was_there && (flags & O_TRUNC) != 0) put(Kind::resize, number, 0, {});
    }
    void closed(int descriptor) {
        files_.erase(descriptor);
        folders_.erase(descriptor);
    }
    void synced(int descriptor) {
        if (const uint32_t file = file_of(descriptor)) put(Kind::sync, file, 0, {});
        const auto folder = folders_.find(descriptor);
        if (folder != folders_.end()) put(Kind::sync_folder, 0, 0, folder->second);
    }

  private:
    /// Of all processes that share the log.
    uint32_t next_number() { return static_cast<uint32_t>(::getpid()) * 4096 + ++count_; }

    std::string folder_;
    int log_ = -1;
    uint32_t count_ = 0;
    std::map<int, uint32_t> files_;
    std::map<int, std::string> folders_;
    std::map<std::pair<dev_t, ino_t>, uint32_t> numbers_;
};

/// Never destroyed: the program may close files at its very end.
Recorder& recorder() {
    static auto* one = new Recorder;
    return *one;
}

bool there(int at, const char* path) {
    struct stat status {};
    return ::fstatat(at, path, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

int open_file(int at, const char* path, int flags, mode_t mode) {
    Recorder& to = recorder();
    const std::lock_guard lock(to.mutex);
    const std::optional<std::string> name = to.inside(at, path);
    const bool was_there = name && there(at, path);
    const int descriptor = static_cast<int>(::syscall(SYS_openat, at, path, flags, mode));
    if (descriptor >= 0) to.closed(descriptor);
    const bool nameless = (flags & O_TMPFILE) == O_TMPFILE;  // nothing of it is left after a loss of power
    if (descriptor >= 0 && name && !nameless) to.opened(descriptor, *name, was_there, flags);
    return descriptor;
}

template <class Call>
ssize_t write_at(int descriptor, off_t offset, const void* data, Call&& call) {
    Recorder& to = recorder();
    const std::lock_guard lock(to.mutex);
    const uint32_t file = to.file_of(descriptor);
    if (file != 0 && offset < 0) {
        struct stat status {};
        ::fstat(descriptor, &status);
        offset = (::fcntl(descriptor, F_GETFL) & O_APPEND) != 0 ? status.st_size : ::lseek(descriptor, 0, SEEK_CUR);
    }
    const ssize_t written = call();
    if (file != 0 && written > 0)
        to.put(Kind::write, file, static_cast<uint64_t>(offset), {},
               {static_cast<const char*>(data), static_cast<size_t>(written)});
    return written;
}

template <class Call>
int resize(int descriptor, off_t length, Call&& call) {
    Recorder& to = recorder();
    const std::lock_guard lock(to.mutex);
    const int result = call();
    const uint32_t file = to.file_of(descriptor);
    if (result == 0 && file != 0) to.put(Kind::resize, file, static_cast<uint64_t>(length), {});
    return result;
}

template <class Call>
int sync(int descriptor, Call&& call) {
    Recorder& to = recorder();
    const std::lock_guard lock(to.mutex);
    const int result = call();
    if (result == 0) to.synced(descriptor);
    return result;
}

template <class Call>
int change(Kind kind, int at, const char* path, int other_at, const char* other, Call&& call) {
    Recorder& to = recorder();
    const std::lock_guard lock(to.mutex);
    const std::optional<std::string> name = to.inside(at, path), second = to.inside(other_at, other);
    const int result = call();
    if (result == 0 && name) to.put(kind, 0, 0, *name, second.value_or(""));
    return result;
}

int remove_at(int at, const char* path, int flags) {
    return change(Kind::remove, at, path, AT_FDCWD, nullptr,
                  [&] { return static_cast<int>(::syscall(SYS_unlinkat, at, path, flags)); });
}

mode_t mode_of(int flags, va_list arguments) {
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(arguments, unsigned)) : 0;
}

int64_t jump() {
    static const bool jumps = std::getenv("BALLAST_CLOCK_JUMPS") != nullptr;
    static unsigned state = 1;
    constexpr int64_t kYear = 365 * 86400;
    return jumps ? static_cast<int64_t>((state = state * 1103515245 + 12345) >> 1) % (2 * kYear) - kYear : 0;
}

}  // namespace

extern "C" {

#define OPENS(name, at, path, ...)                     \
    int name(__VA_ARGS__, int flags, ...) {            \
        va_list arguments;                             \
        va_start(arguments, flags);                    \
        const mode_t mode = mode_of(flags, arguments); \
        va_end(arguments);                             \
        return open_file(at, path, flags, mode);       \
    }
OPENS(open, AT_FDCWD, path, const char* path)
OPENS(open64, AT_FDCWD, path, const char* path)
OPENS(openat, at, path, int at, const char* path)
OPENS(openat64, at, path, int at, const char* path)
#undef OPENS
int __open_2(const char* path, int flags) { return open_file(AT_FDCWD, path, flags, 0); }
int __open64_2(const char* path, int flags) { return open_file(AT_FDCWD, path, flags, 0); }
int creat(const char* path, mode_t mode) { return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char* path, mode_t mode) { return creat(path, mode); }

int close(int descriptor) {
    Recorder& to = recorder();
    const std::lock_guard lock(to.mutex);
    to.closed(descriptor);
    return static_cast<int>(::syscall(SYS_close, descriptor));
}

ssize_t write(int descriptor, const void* data, size_t bytes) {
    return write_at(descriptor, -1, data, [&] { return ::syscall(SYS_write, descriptor, data, bytes); });
}
ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t offset) {
    return write_at(descriptor, offset, data, [&] { return ::syscall(SYS_pwrite64, descriptor, data, bytes, offset); });
}
ssize_t pwrite64(int descriptor, const void* data, size_t bytes, off64_t offset) {
    return pwrite(descriptor, data, bytes, offset);
}
ssize_t writev(int descriptor, const struct iovec* parts, int count) {  // one after another, which a caller may expect
    ssize_t all = 0;
    for (int i = 0; i < count; ++i) {
        const ssize_t written = ::write(descriptor, parts[i].iov_base, parts[i].iov_len);
        if (written < 0) return all > 0 ? all : -1;
        all += written;
        if (static_cast<size_t>(written) < parts[i].iov_len) break;
    }
    return all;
}

int ftruncate(int descriptor, off_t length) __THROW {
    return resize(descriptor, length, [&] { return static_cast<int>(::syscall(SYS_ftruncate, descriptor, length)); });
}
int ftruncate64(int descriptor, off64_t length) __THROW { return ::ftruncate(descriptor, length); }

int fsync(int descriptor) {
    return sync(descriptor, [&] { return static_cast<int>(::syscall(SYS_fsync, descriptor)); });
}
int fdatasync(int descriptor) {
    return sync(descriptor, [&] { return static_cast<int>(::syscall(SYS_fdatasync, descriptor)); });
}

int rename(const char* from, const char* to) __THROW {
    return change(Kind::rename, AT_FDCWD, from, AT_FDCWD, to,
                  [&] { return static_cast<int>(::syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to)); });
}
int unlink(const char* path) __THROW { return remove_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char* path, int flags) __THROW { return remove_at(at, path, flags); }
int rmdir(const char* path) __THROW { return remove_at(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char* path) __THROW {
    const int result = remove_at(AT_FDCWD, path, 0);
    return result != 0 && errno == EISDIR ? remove_at(AT_FDCWD, path, AT_REMOVEDIR) : result;
}
int mkdir(const char* path, mode_t mode) __THROW {
    return change(Kind::make_folder, AT_FDCWD, path, AT_FDCWD, nullptr,
                  [&] { return static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode)); });
}

int clock_gettime(clockid_t clock, struct timespec* now) __THROW {
    static const auto real = next<int (*)(clockid_t, struct timespec*)>("clock_gettime");
    const int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME) now->tv_sec += jump();
    return result;
}
int gettimeofday(struct timeval* now, void* zone) __THROW {
    static const auto real = next<int (*)(struct timeval*, void*)>("gettimeofday");
    const int result = real(now, zone);
    if (result == 0) now->tv_sec += jump();
    return result;
}
time_t time(time_t* out) __THROW {
    struct timespec now {};
    ::clock_gettime(CLOCK_REALTIME, &now);
    if (out != nullptr) *out = now.tv_sec;
    return now.tv_sec;
}

}  // extern "C"
