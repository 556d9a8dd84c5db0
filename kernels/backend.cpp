#include "kernels/backend.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "base/error.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cuda/communicator.h"
#include "kernels/cuda/runtime.h"
#include "kernels/simd.h"

namespace ballast {
namespace {

/// What a backend's name says; nothing: to be chosen.
struct NameParts {
    std::optional<Device> device;
    std::optional<int> number;
};

/// None when it is no backend's name.
std::optional<NameParts> name_parts(std::string_view name) {
    if (name == "auto") return NameParts{};
    const size_t colon = name.find(':');
    NameParts parts;
    for (Device device : {Device::cpu, Device::cuda, Device::simt})
        if (name.substr(0, colon) == name_of(device)) parts.device = device;
    if (!parts.device) return std::nullopt;
    if (colon == std::string_view::npos) return parts;
    const std::string_view digits = name.substr(colon + 1);
    int number = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
    if (parts.device == Device::cpu || error != std::errc{} || end != digits.data() + digits.size() || number < 0)
        return std::nullopt;
    parts.number = number;
    return parts;
}

}  // namespace

std::vector<BackendInfo> backends() {
    const auto bf16 = [] {
        switch (cpu::onednn_bf16_units()) {
            case cpu::Bf16Units::amx: return "on AMX";
            case cpu::Bf16Units::avx512_bf16: return "on AVX512-BF16";
            case cpu::Bf16Units::none: break;
        }
        return "widened to f32";
    };
    std::vector<BackendInfo> all{{"cpu", true,
                                  fmt::format("kernels for {}, matrix products by oneDNN {}, bf16 products {}",
                                              simd_target_name(), cpu::onednn_version(), bf16())}};
    if (const Device gpu = cuda::built_device(); gpu != Device::cpu) {
        const std::string obstacle = cuda::why_unusable();
        all.push_back({std::string(name_of(gpu)), obstacle.empty(), obstacle.empty() ? cuda::description() : obstacle});
    }
    return all;
}

std::string backend_error(const std::string& name) {
    if (name_parts(name)) return "";
    return fmt::format("{} is none of auto, cpu, cuda and simt; a GPU's number follows a colon, as in cuda:1", name);
}

Device device_of_backend(std::string_view name, int local_rank) {
    const auto parts = name_parts(name);
    require(parts.has_value(), "a backend's name nobody checked");
    const Device device =
        parts->device.value_or(is_built(Device::cuda) && cuda::why_unusable().empty() ? Device::cuda : Device::cpu);
    if (device == Device::cpu || !is_built(device)) return device;
    const int present = cuda::num_devices();
    if (present == 0) return device;  // Context says why
    const int number = parts->number.value_or(gpu_of_rank(local_rank, present));
    if (number >= present)
        throw UserError(
            fmt::format("--backend {}: this machine has {} such device{}, numbered from 0 (CUDA_VISIBLE_DEVICES "
                        "may hide some); choose {}:{} or less",
                        name, present, present == 1 ? "" : "s", name_of(device), present - 1));
    cuda::use_device(number);
    return device;
}

int gpu_of_rank(int local_rank, int num_devices) { return local_rank % num_devices; }

Dtype computable_on(Device device, Dtype dtype) {
    if (dtype == Dtype::f16 && device == Device::cpu)
        throw UserError("fp16 is computed on a GPU only; choose the dtype bf16 or f32, or --backend cuda");
    return dtype;
}

std::string collectives_library() { return cuda::gpu_communicator_version(); }

}  // namespace ballast
