// The version, commit, compiler and build type of this binary.
#pragma once

#include <string_view>

namespace ballast {

struct BuildInfo {
    std::string_view version;     // "0.1.0"
    std::string_view commit;      // "3f9c2a1", with "+" when files differed from it, or "unknown" outside git
    std::string_view compiler;    // "GCC 12.2.0"
    std::string_view build_type;  // "Release"
    std::string_view sanitizers;  // "address,undefined"; empty for none
};

const BuildInfo& build_info();

/// "1.10.8": the HDF5 library at run time.
std::string_view hdf5_version();

}  // namespace ballast
