// What a number was made on: this build, this machine.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "train/memory_plan.h"

namespace ballast {

/// Version, compiler, backends, processor, memory and libraries, as `ballast info --json` writes them.
nlohmann::ordered_json environment_json();

/// RUN/environment.json: the same, with the backend and threads a run uses and the bytes it planned for.
void write_run_environment(const std::string& path, Context& context, const train::MemoryPlan& plan);

}  // namespace ballast
