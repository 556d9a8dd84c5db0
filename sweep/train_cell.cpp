#include "sweep/train_cell.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <sstream>

#include "base/atomic_file.h"
#include "base/child_process.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "report/metrics_log.h"
#include "train/run_directory.h"

namespace ballast::sweep {
namespace {

namespace fs = std::filesystem;

/// A value as --set takes it: without quotes where none are needed, which reads better.
std::string setting_text(const ConfigOverride& override) {
    const std::string key = override.key(), value = override.text.substr(key.size() + 1);
    const bool quoted =
        value.size() > 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
    const std::string word = quoted ? value.substr(1, value.size() - 2) : "";
    const bool letters = !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
    const bool means_else = word == "true" || word == "false" || word == "inf" || word == "nan";
    return key + "=" + (letters && !means_else ? word : value);
}

/// Shows the newest step of a growing metrics.jsonl; reads only its end.
class MetricsTail {
  public:
    explicit MetricsTail(std::string path) : path_(std::move(path)) {}

    void show(const StepShown& shown) {
        constexpr std::streamoff kEnough = 4096;  // a dozen lines
        std::ifstream in(path_, std::ios::binary | std::ios::ate);
        const std::streamoff size = in ? std::streamoff(in.tellg()) : 0;
        if (size <= 0 || size == size_) return;
        size_ = size;
        in.seekg(std::max<std::streamoff>(size - kEnough, 0));
        std::ostringstream text;
        text << in.rdbuf();
        const report::MetricsLog log = report::parse_metrics(text.str());
        if (!log.step.empty()) shown(static_cast<int64_t>(log.step.back()), log.values[0].back());
    }

  private:
    std::string path_;
    std::streamoff size_ = 0;
};

std::string reason(const ExitStatus& status, const std::string& log, size_t begin) {
    if (status.signal == 0) return error_line(read_file(log), begin);
    return fmt::format("ended by signal {} ({}){}", status.signal, ::strsignal(status.signal),
                       status.signal == SIGKILL ? "; out of memory, most likely" : "");
}

}  // namespace

std::vector<std::string> train_command(const std::string& program, const SweepFile& file, const Cell& cell,
                                       const std::string& folder, const std::string& backend) {
    std::vector<std::string> words{program, "train", fs::absolute(file.base).lexically_normal().string()};
    const auto set = [&](const std::string& text) { words.insert(words.end(), {"--set", text}); };
    const train::DataConfig& data = cell.config.data;  // paths, absolute by now
    const std::array<std::pair<std::string, std::string>, 4> paths{{{"data.train", data.train},
                                                                    {"data.validation", data.validation},
                                                                    {"data.tokenizer", data.tokenizer},
                                                                    {"data.index", data.index}}};
    const auto is_path = [&](const std::string& key) {
        return std::any_of(paths.begin(), paths.end(), [&](const auto& path) { return path.first == key; });
    };
    for (const ConfigOverride& override : cell.overrides)
        if (!is_path(override.key())) set(setting_text(override));
    for (const auto& [key, path] : paths) set(key + "=" + path);
    words.insert(words.end(), {"--out", fs::absolute(folder).lexically_normal().string(), "--resume"});
    if (backend != "auto") words.insert(words.end(), {"--backend", backend});
    return words;
}

std::string error_line(const std::string& log, size_t begin) {
    std::istringstream lines(log.substr(std::min(begin, log.size())));
    std::string last;
    for (std::string line; std::getline(lines, line);) {
        constexpr std::string_view kMark = "ballast: error: ";
        if (line.starts_with(kMark)) return line.substr(kMark.size());
        if (!line.empty()) last = line;
    }
    return last.empty() ? "no message" : last;
}

CellOutcome train_cell(const std::vector<std::string>& command, const std::string& folder, const StepShown& shown) {
    make_folders(folder);
    const train::RunDirectory directory(folder);
    CellOutcome out;
    out.log = directory.file("train.log");
    const size_t begin = fs::exists(out.log) ? static_cast<size_t>(fs::file_size(out.log)) : 0;
    ChildProcess process(command, out.log);
    MetricsTail tail(directory.file("metrics.jsonl"));
    std::optional<ExitStatus> ended;
    for (bool told = false; !ended; ended = process.wait_for(std::chrono::milliseconds(50))) {
        if (interrupted() && !told) process.signal(SIGINT), told = true;
        tail.show(shown);
    }
    tail.show(shown);
    if (ended->ok() && directory.status() == train::RunStatus::finished)
        out.end = CellEnd::finished;
    else if (interrupted() || (ended->ok() && directory.status() == train::RunStatus::interrupted))
        out.end = CellEnd::interrupted;
    else
        out.error = reason(*ended, out.log, begin);
    return out;
}

}  // namespace ballast::sweep
