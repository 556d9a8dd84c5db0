#include "base/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/log.h"

namespace ballast {
namespace {

void warn_of_no_locks(const std::string& path, int reason) {
    static std::mutex mutex;
    static std::set<std::string> warned;  // folders
    const std::string parent = std::filesystem::path(path).parent_path().string();
    const std::string folder = parent.empty() ? "." : parent;
    const std::lock_guard lock(mutex);
    if (warned.insert(folder).second)
        log_warning(
            fmt::format("{}: this file system has no locks ({}); take care that no other process uses the folder",
                        folder, std::strerror(reason)));
}

}  // namespace

std::optional<FileLock> FileLock::take(const std::string& path) {
    constexpr int kTries = 5;  // held() may be looking
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (descriptor < 0) throw_errno("open", path);
    FileLock lock(descriptor);
    for (int i = 0; i < kTries; ++i) {
        if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return lock;
        if (errno != EWOULDBLOCK && errno != EINTR) {
            warn_of_no_locks(path, errno);
            return lock;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return std::nullopt;
}

bool FileLock::held(const std::string& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return false;
    const bool held = ::flock(descriptor, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    ::close(descriptor);
    return held;
}

std::optional<int64_t> FileLock::holder(const std::string& path) {
    struct stat wanted {};
    if (::stat(path.c_str(), &wanted) != 0) return std::nullopt;
    // "3: FLOCK  ADVISORY  WRITE 4711 08:01:131090 0 EOF"
    const std::string file = fmt::format("{:02x}:{:02x}:{}", major(wanted.st_dev), minor(wanted.st_dev), wanted.st_ino);
    std::ifstream locks("/proc/locks");
    for (std::string line; std::getline(locks, line);) {
        std::istringstream words(line);
        std::string number, kind, mode, access, of;
        int64_t process = 0;
        if (words >> number >> kind >> mode >> access >> process >> of && kind == "FLOCK" && of == file && process > 0)
            return process;
    }
    return std::nullopt;
}

FileLock::~FileLock() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace ballast
