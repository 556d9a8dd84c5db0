#include "cli/environment.h"

#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#include "base/build_info.h"
#include "base/cpu_features.h"
#include "base/json_file.h"
#include "base/process_start.h"
#include "base/thread_pool.h"
#include "kernels/backend.h"

namespace ballast {

nlohmann::ordered_json environment_json() {
    const BuildInfo& build = build_info();
    const CpuFeatures cpu = cpu_features();
    const MemorySize memory = memory_size();
    nlohmann::ordered_json json;
    json["version"] = build.version;
    json["commit"] = build.commit;
    json["compiler"] = build.compiler;
    json["build_type"] = build.build_type;
    json["sanitizers"] = build.sanitizers;
    for (const BackendInfo& backend : backends())
        json["backends"].push_back({{"name", backend.name}, {"usable", backend.usable}, {"details", backend.details}});
    json["processor"] = {{"model", cpu.model}, {"units", cpu.describe()}, {"threads", ThreadPool::available_cores()}};
    json["memory"] = {{"total_bytes", memory.total}, {"available_bytes", memory.available}};
    json["libraries"] = {{"hdf5", hdf5_version()}, {"cli11", CLI11_VERSION}};
    json["onednn_settings"] = onednn_settings();
    return json;
}

void write_run_environment(const std::string& path, Context& context, const train::MemoryPlan& plan) {
    nlohmann::ordered_json json = environment_json();
    nlohmann::ordered_json parts;
    for (const auto& [name, bytes] : plan.parts()) parts[name] = bytes;
    json["run"] = {{"backend", name_of(context.device())},
                   {"threads", context.pool().num_threads()},
                   {"memory_plan_bytes", parts}};
    write_json_file(path, json);
}

}  // namespace ballast
