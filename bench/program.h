// Shared by the benchmarks' main functions: models by name, results to the terminal and to a file, exit codes.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "model/transformer.h"
#include "train/run_config.h"

namespace ballast::bench {

/// The command-line settings of a benchmark of a model.
struct ModelSettings {
    std::string shape = "pythia-160m", model, dtype = "bf16", backend = "auto", json, configs = "configs";
    int threads = 0;

    void add_to(CLI::App& app);
    /// The subject of the figures: the model, or the shape.
    const std::string& name() const { return model.empty() ? shape : model; }
};

/// The config of the model, or of the shape: "pythia-160m" is `configs`/pythia/160m.toml. UserError when there is none.
train::RunConfig config_of(const ModelSettings& settings);

/// A model for inference with the model's weights, or with random ones of `config`; `matrices` as for
/// train::load_model().
std::unique_ptr<model::Transformer> make_model(Context& context, const ModelSettings& settings,
                                               const model::ModelConfig& config,
                                               std::optional<Dtype> matrices = std::nullopt);

/// f32, bf16 or fp16.
Dtype dtype_of_option(const std::string& name);

/// The main function of a benchmark: parses the command line into the options of `app`, then runs `body`. Returns the
/// exit code: `body`'s when there is no error (docs/exit-codes.md).
int run_benchmark(CLI::App& app, int argc, char** argv, const std::function<int()>& body);

/// Prints what `measure` returns and writes it to `json_path` unless that is empty. Returns 0.
int report(const std::string& json_path, const std::function<nlohmann::ordered_json()>& measure);

}  // namespace ballast::bench
