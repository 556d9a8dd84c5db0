#include "report/watched_run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/atomic_file.h"
#include "base/config_toml.h"
#include "base/error.h"
#include "train/heartbeat.h"
#include "train/run_config.h"
#include "train/run_directory.h"

namespace ballast::report {
namespace {

namespace fs = std::filesystem;

/// train.steps of the run, 0 when its config cannot be read (yet).
int64_t steps_of(const std::string& path) {
    try {
        if (!fs::exists(path)) return 0;
        train::RunConfig config;
        load_toml_text(config, read_file(path), path);
        return config.train.steps;
    } catch (const UserError&) {
        return 0;
    }
}

}  // namespace

RunWatcher::RunWatcher(std::string folder, std::string label) : folder_(std::move(folder)) {
    run_.label = std::move(label);
    run_.log = parser_.log();
    refresh();
}

bool RunWatcher::refresh() {
    const std::string before = run_.state;
    const bool grew = read_metrics();
    if (grew || run_.steps == 0) run_.steps = steps_of((fs::path(folder_) / "config.toml").string());
    run_.state = state();
    const bool moved = read_ranks();
    return grew || moved || run_.state != before;
}

/// Their files change every few seconds, and there may be a thousand.
bool RunWatcher::read_ranks() {
    constexpr std::chrono::seconds kBetween{2};
    const bool running = run_.state == "running";
    const auto now = std::chrono::steady_clock::now();
    if (running && now - looked_at_ranks_ < kBetween) return false;
    if (!running && run_.ranks.empty()) return false;
    looked_at_ranks_ = now;
    run_.ranks.clear();
    if (running)
        for (auto& [last, age] : train::HeartbeatFolder(folder_).read_all()) run_.ranks.push_back({last, age});
    return true;
}

bool RunWatcher::read_metrics() {
    const std::string path = (fs::path(folder_) / "metrics.jsonl").string();
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat now {};
    if (descriptor < 0 || ::fstat(descriptor, &now) != 0) {
        if (descriptor >= 0) ::close(descriptor);
        return false;
    }
    if (now.st_ino != inode_ || now.st_size < read_) {
        parser_ = {};
        read_ = 0;
        inode_ = now.st_ino;
    }
    const off_t begin = read_;
    std::array<char, 1 << 16> buffer;
    for (ssize_t count; (count = ::pread(descriptor, buffer.data(), buffer.size(), read_)) > 0; read_ += count)
        parser_.feed({buffer.data(), static_cast<size_t>(count)});
    ::close(descriptor);
    if (read_ == begin && begin > 0) return false;
    run_.log = parser_.log();
    return read_ > begin;
}

std::string RunWatcher::state() {
    const train::RunDirectory directory(folder_);
    const auto status = directory.status();
    ended_ = false;
    if (directory.in_use()) return "running";
    if (!status) return "not there yet";
    ended_ = true;
    switch (*status) {
        case train::RunStatus::finished: return "finished";
        case train::RunStatus::interrupted: return "interrupted";
        case train::RunStatus::failed: return "failed";
        case train::RunStatus::running: break;
    }
    return "killed";  // it says running, and nobody holds its folder
}

}  // namespace ballast::report
