// Saves while training continues: the state is copied into memory that was reserved before step 1, and a thread writes
// the file from this copy.
#pragma once

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "kernels/context.h"
#include "train/checkpoint.h"

namespace ballast::train {

/// A copy of the checkpointed state of all parameters, in rank 0's host memory.
class Snapshot {
  public:
    /// Memory on rank 0; the other ranks need none.
    static size_t bytes(const model::ParameterTable& table, Dtype compute_dtype, const Distribution& distribution);

    Snapshot(Context& context, const model::Weights& weights, const Optimizer& optimizer);

    /// Collective. RunError that names the parameter when a weight is not finite.
    void take();
    std::span<const char> values(Optimizer::State state, const model::ParameterRow& row) const;

  private:
    std::span<char> place(Optimizer::State state, const model::ParameterRow& row) const;

    Context& context_;
    const model::Weights& weights_;
    const Optimizer& optimizer_;
    HostBuffer memory_;
};

/// The result of a save.
struct SaveOutcome {
    int64_t step = 0;
    std::string path;
    double seconds = 0, waited = 0;  // from the copy to the synced file; the part of it for which training waited
    std::exception_ptr failure;      // empty: the file is on the disk
    std::string warning;             // of what went wrong after it; empty: nothing
};

/// Runs one save at a time. The other ranks send their parts to rank 0 and never have a save in progress.
class BackgroundSave {
  public:
    /// Allocates the snapshot's memory and keeps it.
    BackgroundSave(Context& context, const model::Weights& weights, const Optimizer& optimizer)
        : weights_(weights), optimizer_(optimizer), snapshot_(context, weights, optimizer) {}
    ~BackgroundSave();  // waits
    BackgroundSave(const BackgroundSave&) = delete;
    BackgroundSave& operator=(const BackgroundSave&) = delete;

    /// What follows a save, e.g. the removal of older files. Returns a warning, or nothing.
    using After = std::function<std::string()>;

    /// Copies the state and returns. No save may be in progress. The thread of rank 0 then calls `before`, writes the
    /// file, and calls `after` once the file is on the disk; when the system refuses the thread, start() does so
    /// itself. Collective; errors as for Snapshot::take().
    void start(const std::string& path, CheckpointInfo info, std::function<void()> before, After after);
    /// The result of the save, once, after it has ended. Empty while it is in progress, or when there is none.
    std::optional<SaveOutcome> poll();
    /// Waits for the end of the save, then returns its result. Training stops during the wait.
    std::optional<SaveOutcome> wait();

  private:
    void write(std::chrono::steady_clock::time_point begin, const CheckpointInfo& info,
               const std::function<void()>& before, const After& after);

    const model::Weights& weights_;
    const Optimizer& optimizer_;
    Snapshot snapshot_;
    SaveOutcome outcome_;       // owned by the thread until ended_
    bool in_progress_ = false;  // from start() until its outcome is told
    std::thread thread_;
    std::atomic<bool> ended_{false};
};

}  // namespace ballast::train
