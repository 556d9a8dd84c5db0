// The configuration of a training run, as in its TOML file.
#pragma once

#include <array>
#include <span>
#include <string>
#include <vector>

#include "base/config_toml.h"
#include "data/sampler.h"
#include "model/transformer.h"
#include "train/loss_scaler.h"
#include "train/schedule.h"
#include "train/spike_guard.h"

namespace ballast::train {

struct DataConfig {
    std::string train;           // token store
    std::string validation;      // token store; empty: no validation
    std::string tokenizer;       // tokenizer.json
    bool document_mask = false;  // a query sees only its own document, and the sink tokens
    data::FirstToken first_token = data::FirstToken::none;
    data::OrderKind order = data::OrderKind::neox;
    std::string index = "";  // of data.order = "npy": what the names of the three files have in common

    std::array<std::string*, 4> paths() { return {&train, &validation, &tokenizer, &index}; }
};

struct TrainConfig {
    int64_t sequence_length = 2048;
    int64_t global_batch = 1024;
    int64_t micro_batch = 0;  // 0: see samples_per_pass
    int64_t steps = 143000;
    int64_t seed = 1234;       // of the initial weights
    int64_t data_seed = 1234;  // of the sample order
    Dtype dtype = Dtype::bf16;
    Gemm gemm = Gemm::automatic;
    model::Recompute recompute = model::Recompute::none;
    int64_t reduction_lanes = 1;           // train/lanes.h
    Dtype reduction_dtype = Dtype::f32;    // f32 or bf16
    int64_t zero = 0;                      // 1: ranks share the optimiser state (ZeRO, Rajbhandari et al. 2020)
    bool overlap = true;                   // ranks reduce gradients while the backward pass still runs
    int64_t reduce_bucket_size = 4 << 20;  // elements; the minimum
    bool cuda_graph = true;
    int64_t threads = 0;
    int64_t log_every = 1;
    int64_t hang_timeout_seconds = 600;  // train/hang_watch.h
    SpikeAction spike_action = SpikeAction::none;
    double spike_zscore = 6;
    int64_t spike_window = 200;
};

struct OptimizerConfig {
    ScheduleKind schedule = ScheduleKind::pythia;
    double learning_rate = 6e-4;
    double min_learning_rate = 6e-5;
    double warmup = 0.01;  // share of the steps
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
    double clip_norm = 1.0;
};

struct CheckpointConfig {
    int64_t every = 1000;
    bool log_spaced = true;
    int64_t keep_last = 3;
    int64_t protect_every = 1000;
    bool background = true;  // train/background_save.h

    /// True when a save may be due before the last step.
    bool any_before_the_end() const { return every > 0 || log_spaced; }
};

struct ValidationConfig {
    int64_t every = 1000;
    int64_t batches = 10;
};

struct SampleConfig {
    int64_t every = 1000;
    int64_t tokens = 64;
    std::string prompt = "The";
    double temperature = 0.8;
};

struct RunConfig {
    model::ModelConfig model;
    DataConfig data;
    TrainConfig train;
    OptimizerConfig optimizer;
    Fp16Config fp16;
    CheckpointConfig checkpoint;
    ValidationConfig validation;
    SampleConfig sample;

    /// Lists every field once, for parsing, help, printing and saving.
    void visit(FieldVisitor& visitor);
    /// Throws UserError that names the first invalid field and the valid values.
    void validate() const;
    Schedule schedule() const;
    SpikeConfig spikes() const { return {train.spike_action, train.spike_zscore, train.spike_window}; }
    /// train.micro_batch. When that is 0: the largest divisor of the global batch that has at most 8192 positions per
    /// pass and leaves a pass for each of train.reduction_lanes. It never depends on the machine, because it decides
    /// the order of additions and runs must repeat to the bit.
    int64_t samples_per_pass() const;

    /// Loads a TOML file with `extends`, then applies `a.b=value` settings. Paths in [data] are relative to the current
    /// folder and become absolute.
    static RunConfig load(const std::string& path, const std::vector<std::string>& settings);
    /// The same with overrides from any place.
    static RunConfig load_with(const std::string& path, std::span<const ConfigOverride> overrides);
};

}  // namespace ballast::train
