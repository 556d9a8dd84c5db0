#include "base/build_info.h"

#include <fmt/format.h>
#include <hdf5.h>

#include <string>

#include "base/hdf5_internal.h"
#include "ballast_commit.h"  // made by scripts/git_commit.cmake at every build

namespace ballast {

const BuildInfo& build_info() {
#if defined(__clang__)
    static constexpr std::string_view kCompiler = "Clang " __clang_version__;
#else
    static constexpr std::string_view kCompiler = "GCC " __VERSION__;
#endif
    static constexpr BuildInfo kInfo{BALLAST_VERSION, BALLAST_COMMIT, kCompiler, BALLAST_BUILD_TYPE,
                                     BALLAST_SANITIZERS};
    return kInfo;
}

std::string_view hdf5_version() {
    static const std::string version = [] {
        const auto held = hdf5::lock();
        unsigned major = 0, minor = 0, release = 0;
        H5get_libversion(&major, &minor, &release);
        return fmt::format("{}.{}.{}", major, minor, release);
    }();
    return version;
}

}  // namespace ballast
