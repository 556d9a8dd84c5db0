#include "train/run_directory.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/atomic_file.h"
#include "base/error.h"
#include "train/checkpoint.h"

namespace ballast::train {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kStatusNames{"running", "interrupted", "finished", "failed"};
constexpr std::string_view kPrefix = "step_", kSuffix = ".h5", kLock = ".lock";

std::optional<int64_t> step_of(const std::string& name) {
    if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
    const std::string_view digits =
        std::string_view(name).substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
    int64_t step = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
    return error == std::errc{} && end == digits.data() + digits.size() ? std::optional(step) : std::nullopt;
}

/// Calls visit(line, its JSON, its step) for every line that is a JSON object with a step.
template <class Visit>
void for_each_line(const std::string& path, const Visit& visit) {
    std::istringstream lines(read_file(path));
    for (std::string line; std::getline(lines, line);) {
        const auto json = nlohmann::json::parse(line, nullptr, false);
        if (json.is_object() && json.contains("step") && json["step"].is_number_integer())
            visit(line, json, json["step"].get<int64_t>());
    }
}

}  // namespace

std::string RunDirectory::file(std::string_view name) const { return (fs::path(path_) / name).string(); }

std::string RunDirectory::checkpoint_path(int64_t step) const {
    return file(fmt::format("checkpoints/{}{:08}{}", kPrefix, step, kSuffix));
}

void RunDirectory::create_and_lock() {
    make_folders(file("checkpoints"));
    lock_ = FileLock::take(file(kLock));
    if (!lock_)
        throw UserError(fmt::format("another process is training in {}; wait for it or choose another --out", path_));
    for (const std::string& folder : {path_, file("checkpoints")}) remove_abandoned_temporaries(folder);
}

bool RunDirectory::in_use() const { return FileLock::held(file(kLock)); }

bool RunDirectory::has_run() const { return fs::exists(file("status.json")) || !checkpoint_steps().empty(); }

void RunDirectory::clear() {
    for (int64_t step : checkpoint_steps()) fs::remove(checkpoint_path(step));
    for (const char* name : {"metrics.jsonl", "samples.jsonl", "status.json", "environment.json", "data_order.json"})
        fs::remove(file(name));
    fs::remove_all(file("eval"));
    // Before the new run writes anything: an old checkpoint that came back after a loss of power would be gone on from.
    for (const std::string& folder : {file("checkpoints"), path_}) sync_folder(folder);
}

void RunDirectory::set_status(RunStatus status, int64_t step) const {
    const nlohmann::json json{{"status", kStatusNames[static_cast<size_t>(status)]}, {"step", step}};
    write_file(file("status.json"), json.dump() + "\n");
}

std::optional<RunStatus> RunDirectory::status() const {
    if (!fs::exists(file("status.json"))) return std::nullopt;
    const auto json = nlohmann::json::parse(read_file(file("status.json")), nullptr, false);
    if (!json.is_object() || !json.contains("status") || !json["status"].is_string()) return std::nullopt;
    const auto found = std::find(kStatusNames.begin(), kStatusNames.end(), json["status"].get<std::string>());
    if (found == kStatusNames.end()) return std::nullopt;
    return static_cast<RunStatus>(found - kStatusNames.begin());
}

std::vector<int64_t> RunDirectory::checkpoint_steps() const {
    std::vector<int64_t> steps;
    for (const fs::path entry : entries_of(file("checkpoints")))
        if (const auto step = step_of(entry.filename().string())) steps.push_back(*step);
    std::sort(steps.begin(), steps.end());
    return steps;
}

std::optional<int64_t> RunDirectory::newest_valid_checkpoint(const std::function<void(const std::string&)>& warn,
                                                             int64_t last) const {
    std::vector<int64_t> steps = checkpoint_steps();
    std::erase_if(steps, [last](int64_t step) { return step > last; });
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
        try {
            verify_checkpoint(checkpoint_path(*step));
            return *step;
        } catch (const UserError& error) {
            warn(fmt::format("passing over a damaged checkpoint: {}", error.what()));
        }
    }
    return std::nullopt;
}

void RunDirectory::cut_back(std::string_view jsonl, int64_t step) const {
    if (!fs::exists(file(jsonl))) return;
    std::string kept;
    for_each_line(file(jsonl), [&](const std::string& line, const nlohmann::json&, int64_t line_step) {
        if (line_step <= step) kept += line + "\n";
    });
    write_file(file(jsonl), kept);
}

bool RunDirectory::has_line(std::string_view jsonl, int64_t step, std::string_view key) const {
    if (!fs::exists(file(jsonl))) return false;
    bool found = false;
    for_each_line(file(jsonl), [&](const std::string&, const nlohmann::json& json, int64_t line_step) {
        found = found || (line_step == step && json.contains(key));
    });
    return found;
}

}  // namespace ballast::train
