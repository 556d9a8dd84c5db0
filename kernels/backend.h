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

/// The names --backend takes. A GPU's may be followed by which of several: cuda:1, as in PyTorch.
inline constexpr std::array<std::string_view, 4> kBackendNames{"auto", "cpu", "cuda", "simt"};

/// Why `name` is no backend's; empty when it is one.
std::string backend_error(const std::string& name);

/// The device of a backend's name. auto: CUDA where it is built and usable, else the CPU. Whether the device can be
/// used is Context's to say. On a GPU the process works from then on with the one that the name says, else with that of
/// gpu_of_rank(); to be called before the first Context is made. UserError when there is none of that number.
Device device_of_backend(std::string_view name, int local_rank = 0);

/// The GPU of a process that is `local_rank` of those on its machine, which has `num_devices`: they take turns.
int gpu_of_rank(int local_rank, int num_devices);

/// The compute dtype, if the device has kernels for it; else UserError: fp16 is for GPUs.
Dtype computable_on(Device device, Dtype dtype);

}  // namespace ballast
