// The memory that a command takes, said and held against what there is before any of it is taken.
#pragma once

#include <string>

#include "eval/memory.h"
#include "infer/cache_sizes.h"
#include "kernels/context.h"

namespace ballast {

/// UserError that ends with `advice` when the device has less than `memory`, whose purpose follows "are needed":
/// "beside the model's weights".
void require_memory(const infer::MemoryList& memory, const Context& context, const std::string& purpose,
                    const std::string& advice);

/// The same for a measurement, which takes memory of a GPU's host too.
void require_memory(const eval::MeasurementMemory& memory, const Context& context, const std::string& purpose,
                    const std::string& advice);
inline constexpr const char* kBesideWeights = "beside the model's weights";

/// Says on standard error what `memory` takes, part by part.
void say_memory(const infer::MemoryList& memory, const std::string& purpose);

}  // namespace ballast
