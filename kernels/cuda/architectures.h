// The GPUs that a build's machine code runs on.
#pragma once

#include <string_view>

namespace ballast::cuda {

/// `architectures` as CMake names them: "80-real,90a-real,120". Machine code for X.Y runs on X.Z with Z >= Y; that of
/// an "a" architecture runs on X.Y alone. An entry that is not "real" contains PTX, which later GPUs compile for
/// themselves.
bool runs_on(std::string_view architectures, int major, int minor);

}  // namespace ballast::cuda
