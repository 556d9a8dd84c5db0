// The backends of this binary, for `ballast info` and for results that name the backend they ran on.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/context.h"

namespace ballast {

struct BackendInfo {
    std::string name;     ///< as in `--backend`
    bool usable;          ///< true when this machine can use it now
    std::string details;  ///< the SIMD units its kernels use and the library of its matrix products
};

std::vector<BackendInfo> backends();

/// The names that --backend takes. A GPU's index may follow the name: cuda:1, as in PyTorch.
inline constexpr std::array<std::string_view, 4> kBackendNames{"auto", "cpu", "cuda", "simt"};

/// The error message for a `name` that is not a backend; empty for a valid name.
std::string backend_error(const std::string& name);

/// The device of a backend's name. auto: CUDA where it is built and usable, else the CPU. Context checks whether the
/// device is usable. On a GPU this call also selects the GPU for the whole process: the one in the name, else that of
/// gpu_of_rank(). Must be called before the first Context is made. UserError when there is no GPU with that index.
Device device_of_backend(std::string_view name, int local_rank = 0);

/// The GPU of the process with index `local_rank` on a machine with `num_devices` GPUs, assigned round-robin.
int gpu_of_rank(int local_rank, int num_devices);

/// The compute dtype, if the device has kernels for it; else UserError (fp16 needs a GPU).
Dtype computable_on(Device device, Dtype dtype);

/// The library that ranks on GPUs communicate through, such as "NCCL 2.28.3"; empty where the build has none.
std::string collectives_library();

}  // namespace ballast
