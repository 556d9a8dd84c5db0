// Token ids that the user brings.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ballast::eval {

struct InputIds {
    int64_t batch = 0, length = 0;
    std::vector<int32_t> ids;  // [batch, length]
};

/// `input_ids` [batch, length] of a safetensors file, whole numbers of any type, length at least 2. UserError naming
/// the file when they are missing, misshapen, or one is not below `vocab_size`.
InputIds read_input_ids(const std::string& path, int64_t vocab_size);

}  // namespace ballast::eval
