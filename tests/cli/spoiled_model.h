// A model whose losses are not finite.
#pragma once

#include <limits>
#include <optional>

#include "base/safetensors.h"
#include "tests/cli/program.h"

namespace ballast::test {

/// Makes the embedding's first feature NaN, in an export of a GPT-NeoX model in f32: of every token, or of `id` alone.
inline void spoil_embedding(const std::string& folder, std::optional<int64_t> id = {}) {
    const std::string path = folder + "/model.safetensors", name = "gpt_neox.embed_in.weight";
    std::string bytes = bytes_of(path);
    const SafetensorsReader reader(path);
    const auto width = static_cast<size_t>(reader.info(name).shape.at(1));
    std::vector<float> rows(static_cast<size_t>(reader.info(name).numel()));
    reader.read_f32(name, rows);
    const std::string old(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(float));
    const size_t at = bytes.find(old);
    REQUIRE(at != std::string::npos);
    for (size_t row = 0; row < rows.size() / width; ++row)
        if (!id || static_cast<size_t>(*id) == row) rows[row * width] = std::numeric_limits<float>::quiet_NaN();
    bytes.replace(at, old.size(), std::string(reinterpret_cast<const char*>(rows.data()), old.size()));
    put_bytes(path, bytes);
}

}  // namespace ballast::test
