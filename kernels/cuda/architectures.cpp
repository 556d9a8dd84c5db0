#include "kernels/cuda/architectures.h"

#include <charconv>

namespace ballast::cuda {
namespace {

bool entry_runs_on(std::string_view entry, int major, int minor) {
    int number = 0;
    const auto [end, error] = std::from_chars(entry.data(), entry.data() + entry.size(), number);
    if (error != std::errc()) return true;  // "native", "all": CMake knew what it did
    const std::string_view rest = entry.substr(static_cast<size_t>(end - entry.data()));
    const int device = 10 * major + minor;
    if (rest.starts_with('a')) return device == number;
    const bool machine_code = rest != "-virtual" && number / 10 == major && number % 10 <= minor;
    const bool ptx = rest != "-real" && number <= device;
    return machine_code || ptx;
}

}  // namespace

bool runs_on(std::string_view architectures, int major, int minor) {
    while (!architectures.empty()) {
        const size_t end = architectures.find(',');
        if (entry_runs_on(architectures.substr(0, end), major, minor)) return true;
        if (end == std::string_view::npos) break;
        architectures.remove_prefix(end + 1);
    }
    return false;
}

}  // namespace ballast::cuda
