#include "base/cpu_features.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <sstream>

namespace ballast {
namespace {

/// Empty when the file is not there: every source here is optional.
std::string text_of(const std::filesystem::path& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}

std::string architecture() {
    utsname name{};
    return ::uname(&name) == 0 ? name.machine : "unknown processor";
}

/// What follows "key :" on the first line that starts with it.
std::string_view value_of(std::string_view text, std::string_view key) {
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find('\n', begin), text.size());
        const std::string_view line = text.substr(begin, end - begin);
        begin = end + 1;
        if (!line.starts_with(key)) continue;
        const size_t colon = line.find_first_not_of(" \t", key.size());
        if (colon == std::string_view::npos || line[colon] != ':') continue;
        const size_t value = line.find_first_not_of(" \t", colon + 1);
        return value == std::string_view::npos ? "" : line.substr(value);
    }
    return {};
}

std::optional<int64_t> number(std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end == text.data()) return {};
    return value;
}

}  // namespace

bool CpuFeatures::has_fast_bf16_dot_products() const { return avx512_bf16 && vendor == "AuthenticAMD"; }

std::string CpuFeatures::describe() const {
    std::vector<std::string_view> units;
    if (avx2) units.push_back("AVX2");
    if (avx512) units.push_back("AVX-512");
    if (avx512_bf16) units.push_back("AVX512-BF16");
    if (amx_bf16) units.push_back("AMX-BF16");
    if (neon) units.push_back("NEON");
    if (neon_bf16) units.push_back("NEON-BF16");
    if (sve) units.push_back("SVE");
    return units.empty() ? "none" : fmt::format("{}", fmt::join(units, ", "));
}

CpuFeatures parse_cpu_features(std::string_view cpuinfo) {
    CpuFeatures features;
    features.model = value_of(cpuinfo, "model name");
    features.vendor = value_of(cpuinfo, "vendor_id");
    const std::string_view x86 = value_of(cpuinfo, "flags"), arm = value_of(cpuinfo, "Features");
    std::istringstream words(std::string(x86.empty() ? arm : x86));
    const std::vector<std::string> flags{std::istream_iterator<std::string>(words), {}};
    const auto has = [&](std::string_view flag) { return std::find(flags.begin(), flags.end(), flag) != flags.end(); };
    features.avx2 = has("avx2") && has("fma");
    features.avx512 = has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl");
    features.avx512_bf16 = features.avx512 && has("avx512_bf16");
    features.amx_bf16 = has("amx_tile") && has("amx_bf16");
    features.neon = has("asimd");
    features.sve = has("sve");
    features.neon_bf16 = features.neon && has("bf16");
    return features;
}

CpuFeatures cpu_features() {
    CpuFeatures features = parse_cpu_features(text_of("/proc/cpuinfo"));
    if (features.model.empty()) features.model = architecture();
    return features;
}

MemorySize parse_memory(std::string_view meminfo, const std::vector<MemoryLimit>& limits) {
    constexpr int64_t kKiB = 1024;
    MemorySize size{number(value_of(meminfo, "MemTotal")).value_or(0) * kKiB,
                    number(value_of(meminfo, "MemAvailable")).value_or(0) * kKiB};
    for (const auto& [limit, used] : limits) {
        size.total = std::min(size.total, limit);
        size.available = std::min(size.available, std::max<int64_t>(limit - used, 0));
    }
    return size;
}

MemorySize memory_size() { return parse_memory(text_of("/proc/meminfo"), ControlGroups().memory()); }

}  // namespace ballast
