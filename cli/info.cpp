// ballast info
#include <CLI/Version.hpp>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/build_info.h"
#include "base/cpu_features.h"
#include "base/json_file.h"
#include "base/process_start.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/environment.h"
#include "kernels/backend.h"

namespace ballast {
namespace {

std::string gibibytes(int64_t bytes) { return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1 << 30)); }

void print_info() {
    const BuildInfo& build = build_info();
    const CpuFeatures cpu = cpu_features();
    const MemorySize memory = memory_size();
    fmt::print("version    {} (commit {}, {}, {}{}{})\n", build.version, build.commit, build.compiler, build.build_type,
               build.sanitizers.empty() ? "" : ", sanitizers ", build.sanitizers);
    const char* heading = "backends";
    for (const BackendInfo& backend : backends()) {
        fmt::print("{:<10} {}{}: {}\n", heading, backend.name, backend.usable ? "" : " (not usable here)",
                   backend.details);
        heading = "";
    }
    fmt::print("processor  {}; units: {}\n", cpu.model, cpu.describe());
    fmt::print("threads    {}\n", ThreadPool::available_cores());
    fmt::print("memory     {}, {} available\n", gibibytes(memory.total), gibibytes(memory.available));
    const std::string collectives = collectives_library();
    fmt::print("libraries  HDF5 {}, CLI11 {}{}{}\n", hdf5_version(), CLI11_VERSION, collectives.empty() ? "" : ", ",
               collectives);
    if (const auto settings = onednn_settings(); !settings.empty())
        fmt::print("settings   {}\n", fmt::join(settings, ", "));
}

}  // namespace

void add_backend_option(Command command, std::string& name) {
    command
        .add_option("--backend", name,
                    "where to compute: auto, cpu, cuda, cuda:N or simt; auto: CUDA where it is usable, else the CPU; "
                    "cuda:1: the second of several GPUs; simt: the CUDA kernels on the CPU, for tests")
        .check(backend_error, "NAME")
        .capture_default_str();
}

void add_dtype_option(Command command, std::string& name, const std::string& help) {
    command.add_option("--dtype", name, help)
        .one_of(std::vector<std::string>(kComputeDtypeNames.begin(), kComputeDtypeNames.end()))
        .capture_default_str();
}

Dtype dtype_of_option(const std::string& name) {
    const auto found = std::find(kComputeDtypeNames.begin(), kComputeDtypeNames.end(), name);
    require(found != kComputeDtypeNames.end(), "a dtype's name nobody checked");
    return static_cast<Dtype>(found - kComputeDtypeNames.begin());
}

void add_weights_option(Command command, std::string& name) {
    command
        .add_option("--weights", name,
                    "what the model's matrices are held in, the head's among them; int8: a scale a row. same: --dtype")
        .one_of({"same", "f32", "bf16", "int8"})
        .capture_default_str();
}

std::optional<Dtype> weights_of_option(const std::string& name) {
    if (name == "same") return std::nullopt;
    return name == name_of(Dtype::i8) ? Dtype::i8 : dtype_of_option(name);
}

void add_info_command(Command app) {
    Command command = app.add_subcommand("info", "Version, processor, memory: what a report of a fault should carry");
    auto out = std::make_shared<std::string>();
    command.add_option("--json", *out, "Write the same to this file").type_name("FILE");
    command.footer("Example:\n  ballast info --json info.json");
    command.callback([out] {
        print_info();
        if (!out->empty()) write_json_file(*out, environment_json());
    });
}

}  // namespace ballast
