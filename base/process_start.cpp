#include "base/process_start.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <fmt/format.h>
#include <string_view>

#include "base/log.h"

namespace ballast {
namespace {

constexpr const char* kRemovedSettings[] = {
    "OMP_PROC_BIND=", "OMP_PLACES=", "GOMP_CPU_AFFINITY=", "ONEDNN_DEFAULT_FPMATH_MODE=", "DNNL_DEFAULT_FPMATH_MODE="};

#define BALLAST_BEFORE_LIBRARIES __attribute__((no_sanitize("address", "thread", "undefined")))

BALLAST_BEFORE_LIBRARIES bool starts_with(const char* text, const char* beginning) {
    while (*beginning != '\0')
        if (*text++ != *beginning++) return false;
    return true;
}

BALLAST_BEFORE_LIBRARIES bool is_removed_setting(const char* entry) {
    for (const char* setting : kRemovedSettings)
        if (starts_with(entry, setting)) return true;
    return false;
}

/// libgomp, which comes with oneDNN, binds the main thread to its first place when it is loaded: all our threads would
/// share one core. So this runs before the constructors of libraries, and must do without them. What it leaves in
/// `environment` is what they and the program see.
BALLAST_BEFORE_LIBRARIES void remove_settings(int, char**, char** environment) {
    char** kept = environment;
    for (char** entry = environment; *entry != nullptr; ++entry)
        if (!is_removed_setting(*entry)) *kept++ = *entry;
    *kept = nullptr;
}

__attribute__((section(".preinit_array"), used)) void (*const before_libraries)(int, char**, char**) = remove_settings;

void warn_of_settings() {
    const std::vector<std::string> settings = onednn_settings();
    if (settings.empty()) return;
    log_warning(
        fmt::format("oneDNN has settings in the environment: {}. They can change the speed and the last bits of matrix "
                    "products, and what is printed; unset what is there by accident",
                    fmt::join(settings, ", ")));
}

/// A corpus in parts has a file open for each; shells allow 1,024, and more to who asks.
void allow_open_files() {
    rlimit files{};
    if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
}

}  // namespace

std::vector<std::string> onednn_settings() {
    std::vector<std::string> settings;
    for (char** entry = environ; *entry != nullptr; ++entry)
        if (const std::string_view text = *entry; text.starts_with("ONEDNN_") || text.starts_with("DNNL_"))
            settings.emplace_back(text);
    return settings;
}

void prepare_process() {
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream)
        if (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
            ::open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY);  // takes the lowest number that is free
    std::signal(SIGXFSZ, SIG_IGN);
    allow_open_files();
    warn_of_settings();
}

}  // namespace ballast
