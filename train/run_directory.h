// A run's folder:
//   config.toml      the resolved configuration        tokenizer.json  the tokenizer, copied in
//   data_order.json  which samples its steps read (train/data_order.h)
//   metrics.jsonl    one JSON object a step            samples.jsonl   generated texts
//   status.json      running, interrupted, finished or failed, and the step
//   environment.json the environment of the last start
//   heartbeats/      the place of each rank while it trains (train/heartbeat.h)
//   eval/            measurements of the run: table.json, sinks.json, maps.safetensors and others
//   checkpoints/step_00001000.h5
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_lock.h"

namespace ballast::train {

enum class RunStatus { running, interrupted, finished, failed };

class RunDirectory {
  public:
    /// Stores only the folder's name; reads and makes nothing.
    explicit RunDirectory(std::string path) : path_(std::move(path)) {}
    RunDirectory(const RunDirectory&) = delete;
    RunDirectory& operator=(const RunDirectory&) = delete;

    const std::string& path() const { return path_; }
    std::string file(std::string_view name) const;
    std::string checkpoint_path(int64_t step) const;

    /// Makes the folder, locks it for this process and removes unfinished files of a killed process. UserError when
    /// another process is training in it.
    void create_and_lock();
    /// True while a process trains here.
    bool in_use() const;
    /// True when a run was started here.
    bool has_run() const;
    /// Removes the files of an earlier run (checkpoints, metrics, samples, status, measurements).
    void clear();

    void set_status(RunStatus status, int64_t step) const;
    std::optional<RunStatus> status() const;

    /// Steps with a checkpoint file, ascending. UserError when the folder is there and cannot be read.
    std::vector<int64_t> checkpoint_steps() const;
    /// The newest checkpoint, of steps up to `last`, whose checksums are valid; `warn` is called for each one that is
    /// skipped.
    std::optional<int64_t> newest_valid_checkpoint(const std::function<void(const std::string&)>& warn,
                                                   int64_t last = std::numeric_limits<int64_t>::max()) const;

    /// Removes lines of a .jsonl file with a "step" above `step`, and an incomplete last line.
    void cut_back(std::string_view jsonl, int64_t step) const;
    /// True when a .jsonl file has a line of this step with this key.
    bool has_line(std::string_view jsonl, int64_t step, std::string_view key) const;

  private:
    std::string path_;
    std::optional<FileLock> lock_;
};

}  // namespace ballast::train
