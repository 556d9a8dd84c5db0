#include "cli/memory.h"

#include <fmt/format.h>

#include <vector>

#include "base/cpu_features.h"
#include "base/error.h"
#include "base/log.h"
#include "train/memory_plan.h"

namespace ballast {
namespace {

std::string parts_of(const infer::MemoryList& memory) {
    std::vector<std::string> parts;
    for (const auto& [name, bytes] : memory) parts.push_back(fmt::format("{} {}", name, train::format_bytes(bytes)));
    return fmt::format("{}", fmt::join(parts, ", "));
}

void require_within(const infer::MemoryList& memory, size_t available, const std::string& purpose,
                    const std::string& advice) {
    const size_t total = infer::total_bytes(memory);
    if (total > available)
        throw UserError(fmt::format("{} are needed {} ({}) and {} are there; {}", train::format_bytes(total), purpose,
                                    parts_of(memory), train::format_bytes(available), advice));
}

}  // namespace

void require_memory(const infer::MemoryList& memory, const Context& context, const std::string& purpose,
                    const std::string& advice) {
    require_within(memory, context.available_memory(), purpose, advice);
}

void require_memory(const eval::MeasurementMemory& memory, const Context& context, const std::string& purpose,
                    const std::string& advice) {
    infer::MemoryList device = memory.device;
    if (context.device() == Device::cuda)
        require_within(memory.host, static_cast<size_t>(memory_size().available), "on the host", advice);
    else
        device.insert(device.end(), memory.host.begin(), memory.host.end());
    require_within(device, context.available_memory(), purpose, advice);
}

void say_memory(const infer::MemoryList& memory, const std::string& purpose) {
    log_info(fmt::format("memory {}: {}; {} in all", purpose, parts_of(memory),
                         train::format_bytes(infer::total_bytes(memory))));
}

}  // namespace ballast
