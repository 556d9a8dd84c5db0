// The machine this process runs on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/control_group.h"

namespace ballast {

struct CpuFeatures {
    std::string model;  // "AMD EPYC 9554 64-Core Processor"; the architecture when the system does not say
    std::string vendor;  // "AuthenticAMD", "GenuineIntel"; empty when the system does not say
    bool avx2 = false;
    bool avx512 = false;  // F, BW, DQ and VL, as required by our kernels and oneDNN
    bool avx512_bf16 = false;
    bool amx_bf16 = false;
    bool neon = false;
    bool sve = false;
    bool neon_bf16 = false;

    /// AVX512-BF16 whose dot products are faster than f32 products: AMD's (Zen 4: twice the f32 rate); on Intel's
    /// processors they run at half the f32 rate.
    bool has_fast_bf16_dot_products() const;
    /// The vector and matrix units as text: "AVX2, AVX-512, AVX512-BF16".
    std::string describe() const;
};

/// Parses the text of /proc/cpuinfo. A feature that the Linux kernel lists there is also enabled for programs.
CpuFeatures parse_cpu_features(std::string_view cpuinfo);
CpuFeatures cpu_features();

/// In bytes. In a container with a memory limit, that limit is the machine's size.
struct MemorySize {
    int64_t total = 0;
    int64_t available = 0;  // without swapping, at the moment of the call
};

/// Parses the text of /proc/meminfo and the limits of the control groups. The lowest limit applies.
MemorySize parse_memory(std::string_view meminfo, const std::vector<MemoryLimit>& limits);
MemorySize memory_size();

}  // namespace ballast
