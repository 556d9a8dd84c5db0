#include "kernels/backend.h"

#include <fmt/format.h>

#include "base/error.h"
#include "kernels/cpu/onednn.h"
#include "kernels/cuda/runtime.h"
#include "kernels/simd.h"

namespace ballast {

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

Device device_of_backend(std::string_view name) {
    for (Device device : {Device::cpu, Device::cuda, Device::simt})
        if (name == name_of(device)) return device;
    require(name == "auto", "a backend's name nobody checked");
    return is_built(Device::cuda) && cuda::why_unusable().empty() ? Device::cuda : Device::cpu;
}

Dtype computable_on(Device device, Dtype dtype) {
    if (dtype == Dtype::f16 && device == Device::cpu)
        throw UserError("fp16 is computed on a GPU only; choose the dtype bf16 or f32, or --backend cuda");
    return dtype;
}

}  // namespace ballast
