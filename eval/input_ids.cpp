#include "eval/input_ids.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/safetensors.h"

namespace ballast::eval {

InputIds read_input_ids(const std::string& path, int64_t vocab_size) {
    const SafetensorsReader file(path);
    const SafetensorsInfo& info = file.info("input_ids");
    if (info.shape.size() != 2 || info.shape[0] < 1 || info.shape[1] < 2)
        throw UserError(fmt::format("{}: input_ids must be [batch, length] with length at least 2", path));
    InputIds out{info.shape[0], info.shape[1], std::vector<int32_t>(static_cast<size_t>(info.numel()))};
    file.read_as("input_ids", Dtype::i32, out.ids.data());
    for (const int32_t id : out.ids)
        if (id < 0 || id >= vocab_size)
            throw UserError(fmt::format("{}: id {} is not below the model's vocab_size {}", path, id, vocab_size));
    return out;
}

}  // namespace ballast::eval
