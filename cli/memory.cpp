#include "cli/memory.h"

#include <fmt/format.h>

#include <vector>

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

}  // namespace

void require_memory(const infer::MemoryList& memory, const Context& context, const std::string& purpose,
                    const std::string& advice) {
    const size_t total = infer::total_bytes(memory), available = context.available_memory();
    if (total > available)
        throw UserError(fmt::format("{} are needed {} ({}) and {} are there; {}", train::format_bytes(total), purpose,
                                    parts_of(memory), train::format_bytes(available), advice));
}

void say_memory(const infer::MemoryList& memory, const std::string& purpose) {
    log_info(fmt::format("memory {}: {}; {} in all", purpose, parts_of(memory),
                         train::format_bytes(infer::total_bytes(memory))));
}

}  // namespace ballast
