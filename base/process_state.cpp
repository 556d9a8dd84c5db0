#include "base/process_state.h"

#include <array>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>

#include <unistd.h>

namespace ballast {

ProcessState process_state(int64_t pid) {
    if (!std::filesystem::exists("/proc/self/status")) return ProcessState::unknown;
    std::ifstream status(fmt::format("/proc/{}/status", pid));
    if (!status) return ProcessState::gone;
    char letter = '?';
    int64_t tracer = 0;
    for (std::string key; status >> key;) {
        if (key == "State:") status >> letter;
        if (key == "TracerPid:") status >> tracer;
        status.ignore(1 << 16, '\n');
    }
    if (tracer != 0) return ProcessState::traced;
    switch (letter) {
        case 'T': return ProcessState::stopped;
        case 't': return ProcessState::traced;
        case 'D': return ProcessState::waiting_for_disk;
        case 'Z':
        case 'X': return ProcessState::gone;
        case '?': return ProcessState::unknown;
        default: return ProcessState::running;
    }
}

std::string host_name() {
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

}  // namespace ballast
