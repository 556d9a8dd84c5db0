#include "base/control_group.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <utility>

namespace ballast {
namespace {

namespace fs = std::filesystem;

/// The file's first number; empty when there is no file, or for "max": no limit.
std::optional<int64_t> number_in(const fs::path& path) {
    int64_t value = 0;
    if (std::ifstream(path) >> value) return value;
    return {};
}

/// Bytes of files that the group's processes read and wrote: memory that the system takes back as soon as anyone wants
/// it, as MemAvailable has it for the whole machine. `statistics` is the group's memory.stat, of lines "name value".
int64_t page_cache_in(const fs::path& statistics, bool version_2) {
    const std::string below = version_2 ? "" : "total_";  // with the groups inside this one, as its usage has them
    int64_t bytes = 0, value = 0;
    std::ifstream in(statistics);
    for (std::string name; in >> name >> value;)
        if (name == below + "active_file" || name == below + "inactive_file") bytes += value;
    return bytes;
}

bool lists(std::string_view names, std::string_view name) {
    for (size_t begin = 0; begin <= names.size();) {
        const size_t end = std::min(names.find(',', begin), names.size());
        if (names.substr(begin, end - begin) == name) return true;
        begin = end + 1;
    }
    return false;
}

/// How many cores a file lists as "0-3,8"; 0 when there is no such file.
int cores_listed(const fs::path& path) {
    int count = 0;
    std::ifstream in(path);
    for (std::string range; std::getline(in, range, ',');) {
        int first = 0, last = 0;
        const char* end = range.data() + range.size();
        const auto read = std::from_chars(range.data(), end, first);
        if (read.ec != std::errc{}) continue;
        const bool is_one = read.ptr == end || *read.ptr != '-';
        if (is_one || std::from_chars(read.ptr + 1, end, last).ec != std::errc{}) last = first;
        count += std::max(0, last - first + 1);
    }
    return count;
}

/// Microseconds of processor time that the group gets in each period, in cores.
std::optional<int> cores_of_quota(std::optional<int64_t> quota, std::optional<int64_t> period) {
    if (!quota || !period || *quota <= 0 || *period <= 0) return {};  // version 1 says -1 for no limit
    return static_cast<int>(std::min<int64_t>((*quota - 1) / *period + 1, 1 << 20));
}

std::optional<int> quota_in(const fs::path& folder, bool version_2) {
    if (!version_2)
        return cores_of_quota(number_in(folder / "cpu.cfs_quota_us"), number_in(folder / "cpu.cfs_period_us"));
    int64_t quota = 0, period = 0;
    if (std::ifstream(folder / "cpu.max") >> quota >> period) return cores_of_quota(quota, period);
    return {};
}

}  // namespace

ControlGroups::ControlGroups() : ControlGroups(std::ifstream("/proc/self/cgroup"), "/sys/fs/cgroup") {}

ControlGroups::ControlGroups(std::istream&& membership, fs::path root) : root_(std::move(root)) {
    for (std::string line; std::getline(membership, line);) {  // "4:cpu,cpuacct:/docker/3f"
        const size_t first = line.find(':'), second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        groups_.push_back(
            {line.substr(first + 1, second - first - 1), fs::path(line.substr(second + 1)).relative_path()});
    }
}

std::vector<ControlGroups::Folder> ControlGroups::folders_of(std::string_view controller) const {
    std::vector<Folder> folders;
    for (const auto& [controllers, own] : groups_) {
        const bool version_2 = controllers.empty();
        if (!version_2 && !lists(controllers, controller)) continue;
        const fs::path top = version_2 ? root_ : root_ / controller;
        // A container sees its own group as "/", or a path that does not exist inside it; then the root is the group.
        for (fs::path group = own; !group.empty(); group = group.parent_path())
            folders.push_back({top / group, version_2});
        folders.push_back({top, version_2});
    }
    return folders;
}

std::vector<MemoryLimit> ControlGroups::memory() const {
    std::vector<MemoryLimit> limits;
    for (const auto& [folder, version_2] : folders_of("memory")) {
        const auto limit = number_in(folder / (version_2 ? "memory.max" : "memory.limit_in_bytes"));
        const auto used = number_in(folder / (version_2 ? "memory.current" : "memory.usage_in_bytes"));
        const int64_t files = page_cache_in(folder / "memory.stat", version_2);
        if (limit) limits.push_back({*limit, std::max<int64_t>(used.value_or(0) - files, 0)});
    }
    return limits;
}

std::optional<int> ControlGroups::cores() const {
    std::optional<int> least;
    const auto limit = [&least](int cores) { least = std::min(cores, least.value_or(cores)); };
    for (const auto& [folder, version_2] : folders_of("cpuset"))
        if (const int cores = cores_listed(folder / (version_2 ? "cpuset.cpus.effective" : "cpuset.cpus")); cores > 0)
            limit(cores);
    for (const auto& [folder, version_2] : folders_of("cpu"))
        if (const auto cores = quota_in(folder, version_2)) limit(*cores);
    return least;
}

}  // namespace ballast
