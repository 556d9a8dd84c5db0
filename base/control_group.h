// The limits that containers, batch systems and services put around a process: Linux's control groups, version 2 and 1.
#pragma once

#include <cstdint>
#include <filesystem>
#include <istream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ballast {

struct MemoryLimit {
    int64_t limit;  // bytes
    int64_t used;   // without files that are in memory because they were read or written
};

/// This process's groups and those around them. What the system does not show is no limit.
class ControlGroups {
  public:
    ControlGroups();
    /// The groups that /proc/self/cgroup lists, and the folder where the system shows them.
    ControlGroups(std::istream&& membership, std::filesystem::path root);

    std::vector<MemoryLimit> memory() const;
    /// The number of cores that all processes of the group may use at a time: the least of its cpusets and quotas
    /// (docker run --cpus, a pod's limit), the latter rounded up. Empty: as many as the machine has.
    std::optional<int> cores() const;

  private:
    struct Group {
        std::string controllers;  // "cpu,cpuacct"; empty in version 2
        std::filesystem::path path;
    };
    struct Folder {
        std::filesystem::path path;
        bool version_2;
    };
    /// The folders with the files of `controller`, this process's first.
    std::vector<Folder> folders_of(std::string_view controller) const;

    std::vector<Group> groups_;
    std::filesystem::path root_;
};

}  // namespace ballast
