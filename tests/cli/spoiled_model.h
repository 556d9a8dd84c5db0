// Exports of a model with weights that no training gives.
#pragma once

#include <algorithm>
#include <limits>
#include <optional>

#include "base/safetensors.h"
#include "tests/cli/program.h"

namespace ballast::test {

/// Changes a tensor of an export in f32, in place.
template <class Change>
void change_tensor(const std::string& folder, const std::string& name, const Change& change) {
    const std::string path = folder + "/model.safetensors";
    std::string bytes = bytes_of(path);
    const SafetensorsReader reader(path);
    std::vector<float> values(static_cast<size_t>(reader.info(name).numel()));
    reader.read_f32(name, values);
    const auto as_bytes = [&] {
        return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    };
    const std::string old = as_bytes();
    const size_t at = bytes.find(old);
    REQUIRE(at != std::string::npos);
    change(values, static_cast<size_t>(reader.info(name).shape.at(1)));
    bytes.replace(at, old.size(), as_bytes());
    put_bytes(path, bytes);
}

/// Makes the embedding's first feature NaN, in an export of a GPT-NeoX model: of every token, or of `id` alone.
inline void spoil_embedding(const std::string& folder, std::optional<int64_t> id = {}) {
    change_tensor(folder, "gpt_neox.embed_in.weight", [&](std::vector<float>& rows, size_t width) {
        for (size_t row = 0; row < rows.size() / width; ++row)
            if (!id || static_cast<size_t>(*id) == row) rows[row * width] = std::numeric_limits<float>::quiet_NaN();
    });
}

/// Makes all tokens equally likely, so that the first one, the end of text, is taken for the most likely.
inline void silence(const std::string& folder) {
    change_tensor(folder, "embed_out.weight",
                  [](std::vector<float>& rows, size_t) { std::fill(rows.begin(), rows.end(), 0.0f); });
}

}  // namespace ballast::test
