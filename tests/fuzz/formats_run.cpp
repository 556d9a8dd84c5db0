// Configurations, sweeps, and what is in a run's folder.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/config_toml.h"
#include "eval/measurement.h"
#include "model/parameter_table.h"
#include "report/metrics_log.h"
#include "report/page.h"
#include "report/run_data.h"
#include "sweep/cells.h"
#include "tests/eval/made_measurements.h"
#include "tests/fuzz/formats.h"
#include "tests/fuzz/hdf5_edits.h"
#include "train/checkpoint.h"
#include "train/heartbeat.h"
#include "train/metrics.h"
#include "train/run_directory.h"

namespace ballast::fuzz {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

std::string folder_of(const std::string& path) { return fs::path(path).parent_path().string(); }

train::RunConfig small_config() {
    train::RunConfig config;
    config.model.vocab_size = 8, config.model.hidden_size = 8, config.model.num_layers = 1;
    config.model.num_heads = 1, config.model.max_position_embeddings = 16;
    config.data.train = "train.h5", config.data.tokenizer = "tokenizer.json";
    config.train.sequence_length = 16, config.train.global_batch = 2, config.train.steps = 10;
    return config;
}

// Configurations ------------------------------------------------------------------------------------------------------

Strings config_seeds(const std::string& folder) {
    write_file(folder + "/common.toml", to_toml(small_config()));
    return {to_toml(small_config()),
            "extends = \"common.toml\"\n[model]\nattention_span = [4, 0]\nnormaliser = 'sink_logit'\n",
            "extends = \"common.toml\"\n[train]\ndtype = \"fp16\"\nspike_action = \"skip\"\n[optimizer]\nlearning_rate "
            "= 1.5e-3\n"};
}

void read_config(const std::string& path) {
    const train::RunConfig config = train::RunConfig::load(path, {});
    config.validate();
    to_table(config);
    train::RunConfig again;
    load_toml_text(again, to_toml(config), "config.toml");
}

Strings sweep_seeds(const std::string& folder) {
    write_file(folder + "/base.toml", to_toml(small_config()));
    return {"base = \"base.toml\"\n[grid]\ntrain.seed = [1, 2]\nmodel.normaliser = [\"softmax\", \"off_by_one\"]\n",
            "base = \"base.toml\"\nset.train.steps = 5\n[[variant]]\nname = \"a\"\n"
            "grid.model.num_sink_tokens = [0, 1]\n[[variant]]\nname = \"b\"\nset.model.normaliser = \"off_by_one\"\n"
            "[evaluate]\ntext = [\"a.txt\"]\ncache = 8\n"};
}

void read_sweep(const std::string& path) { sweep::expand(sweep::load_sweep_file(path), {}); }

// A run's folder ------------------------------------------------------------------------------------------------------

const char* const kDataOrder = R"({"stretches": [
  {"first_step": 1, "first_sample": 0, "global_batch": 4, "sequence_length": 32, "data_seed": 1234, "epochs": 1,
   "first_token": "none", "order": "neox", "corpus": "41 tokens"},
  {"first_step": 11, "first_sample": 40, "global_batch": 2, "sequence_length": 32, "data_seed": 1234, "epochs": 1,
   "first_token": "none", "order": "mcore", "last_epoch_apart": true, "corpus": "41 tokens"}]})";

Strings checkpoint_seeds(const std::string& folder) {
    const std::string path = folder + "/step_00000003.h5";
    train::CheckpointInfo info;
    info.step = 3;
    info.config = small_config();
    info.tokenizer_hash = "hash";
    info.data_order = train::DataOrder::parse(kDataOrder, "data_order");
    info.loss_scaler = train::LossScalerState{};
    info.lanes = 4;
    info.spikes = train::SpikeState{.losses = {1.5}, .norms = {2}};
    const std::vector<char> zeros(1 << 12);
    write_checkpoint(path, info, model::ParameterTable(info.config.model), Dtype::f32,
                     [&](train::Optimizer::State, const model::ParameterRow&) { return std::span(zeros); });
    return {read_file(path)};
}

/// What a resume does before it loads tensors.
void read_checkpoint(const std::string& path) {
    const train::CheckpointInfo info = train::read_checkpoint_info(path);
    info.config.model.validate();
    train::verify_checkpoint(path);
    to_toml(info.config);
    if (!info.data_order.empty()) info.data_order.samples_after(info.step);
}

Strings checkpoint_edits_seeds(const std::string& folder) {
    write_file(folder + "/valid.h5", checkpoint_seeds(folder).front());
    return seeds_of_edits();
}

void read_edited_checkpoint(const std::string& path) { read_checkpoint(write_edited(path)); }

Strings data_order_seeds(const std::string&) { return {kDataOrder}; }

void read_data_order(const std::string& path) {
    const train::DataOrder order = train::DataOrder::parse(read_file(path), path);
    order.samples_after(1000);
    order.tokens_after(1000);
    train::DataOrder::parse(order.to_json(), path);
}

Strings heartbeat_seeds(const std::string&) {
    return {train::Heartbeat{.rank = 0, .host = "node", .pid = 7, .beat = 3, .step = 2, .place = {}}.to_json()};
}

void read_heartbeat(const std::string& path) {
    if (const auto heartbeat = train::HeartbeatFolder(folder_of(folder_of(path))).read(0)) heartbeat->to_json();
}

Strings metrics_seeds(const std::string& folder) {
    const std::string path = folder + "/metrics.jsonl";
    write_file(folder + "/config.toml", to_toml(small_config()));
    fs::remove(path);
    train::JsonLines lines(path);
    for (int64_t step = 1; step < 4; ++step) lines.append({.step = step, .loss = 3.5, .tokens = 64 * step});
    lines.append({.step = 4, .loss_scale = 4096, .skipped = true, .why_skipped = "loss 9"});
    lines.append({.step = 2, .rolled_back_from = 4, .why_rolled_back = "norm 9"});
    lines.append_validation(4, 3.25);
    return {read_file(path)};
}

Strings samples_seeds(const std::string& folder) {
    const std::string path = folder + "/samples.jsonl";
    fs::remove(path);
    train::JsonLines(path).append_sample(3, "The", " end.\n\u00E9");
    return {read_file(path)};
}

Strings status_seeds(const std::string&) { return {R"({"status": "finished", "step": 10})"}; }

/// The page of a report, and what a resume does with the file.
void read_run_folder(const std::string& path) {
    const std::string folder = folder_of(path), name = fs::path(path).filename().string();
    report::script_json(to_json(report::read_run(folder, "run", {})));
    const train::RunDirectory run(folder);
    run.status();
    if (!name.ends_with(".jsonl")) return;
    report::MetricsParser parser;
    const std::string text = read_file(path);
    for (size_t at = 0; at < text.size(); at += 7) parser.feed(std::string_view(text).substr(at, 7));
    run.has_line(name, 3, "loss");
    run.cut_back(name, 2);
}

Strings measurement_seeds(const std::string& folder) {
    const std::string path = folder + "/table.json";
    using infer::CachePolicy;
    const eval::MeasuredModel model{
        "run",
        14,
        {test::cell(CachePolicy::dense()), test::cell(CachePolicy::sink(4, 60)), test::cell(eval::Mixture{4, 32}),
         test::sinks(), test::last_query(), test::encoder_sinks(), test::outliers()},
        "bf16",
        "int8"};
    Strings out;
    eval::write_measurements(path, model);
    out.push_back(read_file(path));
    eval::write_measurement_table(path, 64, {{"run", 14, {test::cell(CachePolicy::sink(0, 64))}}});
    out.push_back(read_file(path));
    return out;
}

void read_measurements(const std::string& path) {
    std::vector<eval::Measurement> all;
    for (const eval::MeasuredModel& model : eval::read_measurements(path))
        for (const eval::Metrics& metrics : model.metrics) put(all, {metrics, model.step, path});
    for (const eval::Measurement& measurement : all) report::script_json(to_json(measurement));
}

}  // namespace

std::vector<Format> run_formats() {
    return {{"config_toml", "config.toml", config_seeds, read_config},
            {"sweep", "sweep.toml", sweep_seeds, read_sweep},
            {"checkpoint", "step_00000003.h5", checkpoint_seeds, read_checkpoint},
            {"checkpoint_edits", "a.edits", checkpoint_edits_seeds, read_edited_checkpoint},
            {"data_order", "data_order.json", data_order_seeds, read_data_order},
            {"heartbeat", "heartbeats/rank_0000.json", heartbeat_seeds, read_heartbeat},
            {"metrics", "metrics.jsonl", metrics_seeds, read_run_folder},
            {"samples", "samples.jsonl", samples_seeds, read_run_folder},
            {"status", "status.json", status_seeds, read_run_folder},
            {"measurements", "table.json", measurement_seeds, read_measurements}};
}

}  // namespace ballast::fuzz
