#include "bench/program.h"

#include <fmt/format.h>
#include <iostream>

#include "base/error.h"
#include "base/json_file.h"
#include "kernels/backend.h"

namespace ballast::bench {

void ModelSettings::add_to(CLI::App& app) {
    app.add_option("--shape", shape, "a config: pythia-160m is configs/pythia/160m.toml");
    app.add_option("--configs", configs, "the folder of configs");
    app.add_option("--dtype", dtype, "f32, bf16 or fp16")->check(CLI::IsMember({"f32", "bf16", "fp16"}));
    app.add_option("--backend", backend, "cpu, cuda, simt or auto")->check(CLI::IsMember(kBackendNames));
    app.add_option("--threads", threads, "0: all");
    app.add_option("--json", json, "write the figures there");
}

train::RunConfig config_of_shape(const std::string& configs, const std::string& shape) {
    const size_t dash = shape.find('-');
    if (dash == std::string::npos) throw UserError("--shape is a family and a size, such as pythia-160m");
    return train::RunConfig::load(fmt::format("{}/{}/{}.toml", configs, shape.substr(0, dash), shape.substr(dash + 1)),
                                  {});
}

Dtype dtype_of_option(const std::string& name) {
    return name == "bf16" ? Dtype::bf16 : name == "fp16" ? Dtype::f16 : Dtype::f32;
}

int run_and_report(const char* program, const std::string& json_path,
                   const std::function<nlohmann::ordered_json()>& measure) {
    try {
        const auto json = measure();
        std::cout << json.dump(2) << '\n';
        if (!json_path.empty()) write_json_file(json_path, json);
        return 0;
    } catch (const std::exception& error) {
        std::cerr << program << ": " << error.what() << '\n';
        return dynamic_cast<const UserError*>(&error) != nullptr ? 2 : 1;
    }
}

}  // namespace ballast::bench
