#include "base/process_start.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace ballast {
namespace {

constexpr const char* kBindingSettings[] = {"OMP_PROC_BIND=", "OMP_PLACES=", "GOMP_CPU_AFFINITY="};

#define BALLAST_BEFORE_LIBRARIES __attribute__((no_sanitize("address", "thread", "undefined")))

BALLAST_BEFORE_LIBRARIES bool starts_with(const char* text, const char* beginning) {
    while (*beginning != '\0')
        if (*text++ != *beginning++) return false;
    return true;
}

BALLAST_BEFORE_LIBRARIES bool is_binding_setting(const char* entry) {
    for (const char* setting : kBindingSettings)
        if (starts_with(entry, setting)) return true;
    return false;
}

/// libgomp, which comes with oneDNN, binds the main thread to its first place when it is loaded: all our threads would
/// share one core. So this runs before the constructors of libraries, and must do without them. What it leaves in
/// `environment` is what they and the program see.
BALLAST_BEFORE_LIBRARIES void remove_binding_settings(int, char**, char** environment) {
    char** kept = environment;
    for (char** entry = environment; *entry != nullptr; ++entry)
        if (!is_binding_setting(*entry)) *kept++ = *entry;
    *kept = nullptr;
}

__attribute__((section(".preinit_array"), used)) void (*const before_libraries)(int, char**,
                                                                                char**) = remove_binding_settings;

}  // namespace

void prepare_process() {
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream)
        if (::fcntl(stream, F_GETFD) < 0 && errno == EBADF)
            ::open("/dev/null", stream == STDIN_FILENO ? O_RDONLY : O_WRONLY);  // takes the lowest number that is free
    std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace ballast
