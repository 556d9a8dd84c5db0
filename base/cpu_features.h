// The machine this process runs on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ballast {

struct CpuFeatures {
    std::string model;  // "AMD EPYC 9554 64-Core Processor"; the architecture when the system does not say
    std::string vendor;  // "AuthenticAMD", "GenuineIntel"; empty when the system does not say
    bool avx2 = false;
    bool avx512 = false;  // F, BW, DQ and VL, what our kernels and oneDNN ask for
    bool avx512_bf16 = false;
    bool amx_bf16 = false;
    bool neon = false;
    bool sve = false;
    bool neon_bf16 = false;

    /// "AVX2, AVX-512, AVX512-BF16": the vector and matrix units in words.
    std::string describe() const;
};

/// From the text of /proc/cpuinfo: what the kernel lists there is also enabled for programs.
CpuFeatures parse_cpu_features(std::string_view cpuinfo);
CpuFeatures cpu_features();

/// Bytes. A container's limit counts as the machine's size.
struct MemorySize {
    int64_t total = 0;
    int64_t available = 0;  // without swapping, as things are now
};

/// From the text of /proc/meminfo and the control groups' limits (the lowest wins).
struct MemoryLimit {
    int64_t limit;  // bytes
    int64_t used;
};
MemorySize parse_memory(std::string_view meminfo, const std::vector<MemoryLimit>& limits);
MemorySize memory_size();

}  // namespace ballast
