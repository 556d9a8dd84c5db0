// Checkpoints: HDF5 files with every parameter under its Hugging Face name, AdamW's moments, the step, the resolved
// config and the tokenizer's hash. A checkpoint file is written atomically and carries checksums (base/hdf5_file.h).
//
// Layout (docs/formats.md): model/<name>, optimizer/m/<name>, optimizer/v/<name>; loss_scaler/{scale, hysteresis,
// good_updates} of fp16 runs; spikes/{losses, norms, skipped_in_a_row, rollbacks, furthest} of runs that look for them;
// the u8 datasets config (TOML) and data_order (JSON); root attributes format, step, steps_skipped, samples, tokens,
// lanes, tokenizer_hash, ballast_version.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"

#include "train/data_order.h"
#include "train/optimizer.h"
#include "train/run_config.h"

namespace ballast::train {

struct CheckpointInfo {
    int64_t step = 0;           // batches done
    int64_t steps_skipped = 0;  // the batches among them without an update
    DataOrder data_order;       // the samples that its steps read
    RunConfig config;
    std::string tokenizer_hash;
    std::optional<LossScalerState> loss_scaler;  // of an fp16 run
    std::optional<SpikeState> spikes;            // of a run with train.spike_action
    std::optional<int64_t> lanes;                // Distribution::lanes(), on which rounding depends
};

/// The form in which checkpoints keep a configuration: without settings that change no bit of the result, such as how
/// ranks and threads divide the work, who writes how often, and who watches.
RunConfig as_saved(RunConfig config);

/// Writes `path` atomically; all ranks call it and rank 0 writes. The bytes do not depend on the number of ranks.
/// UserError when the disk refuses, RunError that names the parameter when a weight is not finite; an older file at
/// `path` then stays. The other ranks then get a UserError.
void save_checkpoint(const std::string& path, const CheckpointInfo& info, const model::Weights& weights,
                     const Optimizer& optimizer);

/// A parameter's values in the accumulation dtype.
using StateValues = std::function<std::span<const char>(Optimizer::State, const model::ParameterRow&)>;

/// Writes the same file from one rank's memory, without checking the values. Not collective.
void write_checkpoint(const std::string& path, const CheckpointInfo& info, const model::ParameterTable& table,
                      Dtype dtype, const StateValues& values);

/// RunError that names the parameter unless all its `values`, f32 or f64, are finite.
void require_finite(ThreadPool& pool, std::span<const char> values, Dtype dtype, const std::string& parameter);

/// Reads everything except tensors. Older files do not store `data_order`, which is then empty, and `lanes`. UserError
/// when the file is missing, damaged or foreign.
CheckpointInfo read_checkpoint_info(const std::string& path);

/// Loads the weights (and the optimiser's moments, when given), and checks shapes and checksums.
void load_checkpoint(const std::string& path, Context& context, model::Weights& weights, Optimizer* optimizer);

/// Checks every checksum of the file. UserError at the first that differs.
void verify_checkpoint(const std::string& path);

/// True when training saves a checkpoint after `step` updates (0: before the first).
bool checkpoint_due(const CheckpointConfig& config, int64_t step, int64_t last_step);
/// True for the steps whose checkpoints are never removed: log-spaced ones and multiples of protect_every.
bool checkpoint_protected(const CheckpointConfig& config, int64_t step);
/// Given the steps that have a checkpoint (ascending), the ones to remove: all unprotected steps but the last
/// keep_last.
std::vector<int64_t> checkpoints_to_remove(const CheckpointConfig& config, const std::vector<int64_t>& steps);

}  // namespace ballast::train
