#include "bench/program.h"

#include <fmt/format.h>
#include <iostream>

#include "base/atomic_file.h"
#include "base/ending.h"
#include "base/error.h"
#include "base/json_file.h"
#include "base/process_start.h"
#include "kernels/backend.h"
#include "train/load_model.h"

namespace ballast::bench {

void ModelSettings::add_to(CLI::App& app) {
    app.add_option("--shape", shape, "a config: pythia-160m is configs/pythia/160m.toml");
    app.add_option("--model", model, "a run, a checkpoint or a Hugging Face folder, instead of a shape");
    app.add_option("--configs", configs, "the folder of configs");
    app.add_option("--dtype", dtype, "f32, bf16 or fp16")->check(CLI::IsMember({"f32", "bf16", "fp16"}));
    app.add_option("--backend", backend, "cpu, cuda, simt or auto")->check(CLI::IsMember(kBackendNames));
    app.add_option("--threads", threads, "0: all");
    app.add_option("--json", json, "write the figures there");
}

train::RunConfig config_of(const ModelSettings& settings) {
    if (!settings.model.empty()) {
        train::RunConfig config;
        config.model = train::find_model(settings.model).config;
        return config;
    }
    const std::string& shape = settings.shape;
    const size_t dash = shape.find('-');
    if (dash == std::string::npos) throw UserError("--shape is a family and a size, such as pythia-160m");
    return train::RunConfig::load(
        fmt::format("{}/{}/{}.toml", settings.configs, shape.substr(0, dash), shape.substr(dash + 1)), {});
}

std::unique_ptr<model::Transformer> make_model(Context& context, const ModelSettings& settings,
                                               const model::ModelConfig& config, std::optional<Dtype> matrices) {
    const Dtype dtype = dtype_of_option(settings.dtype);
    if (!settings.model.empty()) return train::load_model(settings.model, context, dtype, matrices).model;
    auto model = std::make_unique<model::Transformer>(context, config, dtype, model::WeightUse::inference, matrices);
    model->weights().initialise(context, 1234);
    return model;
}

Dtype dtype_of_option(const std::string& name) {
    return name == "bf16" ? Dtype::bf16 : name == "fp16" ? Dtype::f16 : Dtype::f32;
}

int run_benchmark(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
    prepare_process();
    return run_program(app.get_name(), [&] {
        try {
            app.parse(argc, argv);
        } catch (const CLI::ParseError& error) {
            return app.exit(error) == 0 ? exit_code::kDone : exit_code::kUserMistake;
        }
        return body();
    });
}

int report(const std::string& json_path, const std::function<nlohmann::ordered_json()>& measure) {
    if (!json_path.empty()) require_writable(json_path);
    const auto json = measure();
    std::cout << json.dump(2) << '\n';
    if (!json_path.empty()) write_json_file(json_path, json);
    return exit_code::kDone;
}

}  // namespace ballast::bench
