// Saving while training goes on: the state is copied into memory that was reserved before step 1, and a thread writes
// the file from there.
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

/// A copy of what a checkpoint keeps of all parameters, in rank 0's host memory.
class Snapshot {
  public:
    /// Memory on rank 0; other ranks have none.
    static size_t bytes(const model::ParameterTable& table, Dtype compute_dtype, const Distribution& distribution);

    Snapshot(Context& context, const model::Weights& weights, const Optimizer& optimizer);

    /// Collective. RunError naming the parameter when a weight is not finite.
    void take();
    std::span<const char> values(Optimizer::State state, const model::ParameterRow& row) const;

  private:
    std::span<char> place(Optimizer::State state, const model::ParameterRow& row) const;

    Context& context_;
    const model::Weights& weights_;
    const Optimizer& optimizer_;
    HostBuffer memory_;
};

/// How a save went.
struct SaveOutcome {
    int64_t step = 0;
    std::string path;
    double seconds = 0, waited = 0;  // from the copy to the synced file, and what of it training stood still
    std::exception_ptr failure;      // none: it is on the disk
};

/// One save at a time. Ranks other than the first hand over their parts and have nothing under way.
class BackgroundSave {
  public:
    /// Takes the snapshot's memory and keeps it.
    BackgroundSave(Context& context, const model::Weights& weights, const Optimizer& optimizer)
        : weights_(weights), optimizer_(optimizer), snapshot_(context, weights, optimizer) {}
    ~BackgroundSave();  // waits
    BackgroundSave(const BackgroundSave&) = delete;
    BackgroundSave& operator=(const BackgroundSave&) = delete;

    /// Copies the state and returns; nothing may be under way. On the thread of rank 0: `before`, the file, and once it
    /// is on the disk `after`. Collective; errors as Snapshot::take().
    void start(const std::string& path, CheckpointInfo info, std::function<void()> before, std::function<void()> after);
    /// How the save under way ended, once; none while it is not at its end, or there is none.
    std::optional<SaveOutcome> poll();
    /// The same when it has ended; training then stands still for it.
    std::optional<SaveOutcome> wait();

  private:
    const model::Weights& weights_;
    const Optimizer& optimizer_;
    Snapshot snapshot_;
    SaveOutcome outcome_;  // the thread's until ended_
    std::thread thread_;
    std::atomic<bool> ended_{false};
};

}  // namespace ballast::train
