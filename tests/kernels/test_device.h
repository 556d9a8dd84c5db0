// Which device the tests of ops, model and training run on: the CPU, or what BALLAST_TEST_DEVICE names.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "kernels/context.h"

namespace ballast::test {

inline Device test_device() {
    const char* wanted = std::getenv("BALLAST_TEST_DEVICE");
    if (wanted == nullptr) return Device::cpu;
    for (Device device : {Device::cpu, Device::cuda, Device::simt})
        if (name_of(device) == wanted) return device;
    throw std::runtime_error("BALLAST_TEST_DEVICE names no device");
}

}  // namespace ballast::test
