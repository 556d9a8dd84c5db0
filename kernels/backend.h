// The backends this binary was built with, for `ballast info` and for results that name what they ran on.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/context.h"

namespace ballast {

struct BackendInfo {
    std::string name;     ///< as in `--backend`
    bool usable;          ///< on this machine, now
    std::string details;  ///< the units its kernels were dispatched to and the library of its matrix products
};

std::vector<BackendInfo> backends();

/// The names --backend takes.
inline constexpr std::array<std::string_view, 4> kBackendNames{"auto", "cpu", "cuda", "simt"};

/// The device of a backend's name. auto: CUDA where it is built and usable, else the CPU. Whether the device can be
/// used is Context's to say.
Device device_of_backend(std::string_view name);

/// The compute dtype, if the device has kernels for it; else UserError: fp16 is for GPUs.
Dtype computable_on(Device device, Dtype dtype);

}  // namespace ballast
