// Which device the tests of ops, model and training run on, the CPU or what BALLAST_TEST_DEVICE names; and its memory,
// which the host must not touch where that is a GPU's.
#pragma once

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "kernels/context.h"
#include "kernels/cuda/runtime.h"

namespace ballast::test {

inline Device test_device() {
    const char* wanted = std::getenv("BALLAST_TEST_DEVICE");
    if (wanted == nullptr) return Device::cpu;
    for (Device device : {Device::cpu, Device::cuda, Device::simt})
        if (name_of(device) == wanted) return device;
    throw std::runtime_error("BALLAST_TEST_DEVICE names no device");
}

/// Kernels in f64 exist for checking only, on the CPU and on the executor. Tests of nothing else are tagged
/// [not_cuda] (cmake/BallastTargets.cmake leaves those out); tests of several types ask here.
inline bool has_f64() {
    const char* strict = std::getenv("BALLAST_SIMT_STRICT");
    return test_device() == Device::cpu ||
           (test_device() == Device::simt && (strict == nullptr || std::string_view(strict) != "1"));
}

/// Those of `dtypes` that the test device computes in.
inline std::vector<Dtype> computable(std::vector<Dtype> dtypes) {
    if (!has_f64()) std::erase(dtypes, Dtype::f64);
    if (test_device() == Device::cpu) std::erase(dtypes, Dtype::f16);
    return dtypes;
}
inline std::vector<Dtype> compute_dtypes() {
    return computable({Dtype::f32, Dtype::bf16, Dtype::f16, Dtype::f64});
}

/// Copies between the host and the test device, after all that was queued there.
inline void read_device(void* host, const void* device, size_t bytes) {
    if (test_device() == Device::cpu) {
        std::memcpy(host, device, bytes);
        return;
    }
    cuda::synchronise();
    cuda::copy_to_host(host, device, bytes, nullptr);
}
inline void write_device(void* device, const void* host, size_t bytes) {
    if (test_device() == Device::cpu) {
        std::memcpy(device, host, bytes);
        return;
    }
    cuda::synchronise();
    cuda::copy_from_host(device, host, bytes, nullptr);
    cuda::synchronise();
}

/// A T in the test device's memory, which ops take as a tensor of one `dtype` or of bytes.
template <class T>
class OnDevice {
  public:
    explicit OnDevice(const T& value) : memory_(test_device(), sizeof(T)) { set(value); }
    T get() const {
        T value;
        read_device(&value, memory_.data(), sizeof value);
        return value;
    }
    void set(const T& value) { write_device(memory_.data(), &value, sizeof value); }
    Tensor tensor(Dtype dtype) const {
        return Tensor(memory_.data(), dtype, {static_cast<int64_t>(sizeof(T) / size_of(dtype))});
    }

  private:
    DeviceBuffer memory_;
};

}  // namespace ballast::test
