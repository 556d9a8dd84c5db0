// Token ids from a user's file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ballast::eval {

struct InputIds {
    int64_t batch = 0, length = 0;
    std::vector<int32_t> ids;  // [batch, length]
};

/// Reads `input_ids` [batch, length] from a safetensors file: integers of any type, length at least 2. UserError that
/// names the file when they are missing or have a wrong shape, or one is not below `vocab_size`.
InputIds read_input_ids(const std::string& path, int64_t vocab_size);

}  // namespace ballast::eval
