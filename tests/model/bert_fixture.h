// A BERT of 2 layers, 2 heads of 4 dims and 11 ids, as a Hugging Face folder.
#pragma once

#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/safetensors.h"
#include "tests/base/temporary_folder.h"

namespace ballast::test {

inline constexpr const char* kBertConfig = R"("model_type":"bert","vocab_size":11,"hidden_size":8,"num_hidden_layers":2,
    "num_attention_heads":2,"intermediate_size":12,"max_position_embeddings":6,"type_vocab_size":2)";

struct StoredTensor {
    std::vector<int64_t> shape;
    std::vector<float> values;
};
using BertTensors = std::map<std::string, StoredTensor>;

inline BertTensors random_bert() {
    BertTensors out;
    std::mt19937 random(4);
    std::normal_distribution<float> normal(0, 0.5f);
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
        StoredTensor stored{shape, {}};
        int64_t count = 1;
        for (const int64_t n : shape) count *= n;
        for (int64_t i = 0; i < count; ++i)
            stored.values.push_back(normal(random) + (name.ends_with("LayerNorm.weight") ? 1.0f : 0.0f));
        out[name] = stored;
    };
    const auto add_pair = [&](const std::string& name, std::vector<int64_t> weight) {
        add(name + ".weight", weight);
        add(name + ".bias", {weight[0]});
    };
    add("embeddings.word_embeddings.weight", {11, 8});
    add("embeddings.position_embeddings.weight", {6, 8});
    add("embeddings.token_type_embeddings.weight", {2, 8});
    add_pair("embeddings.LayerNorm", {8});
    for (const std::string layer : {"encoder.layer.0.", "encoder.layer.1."}) {
        for (const char* name :
             {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"})
            add_pair(layer + name, {8, 8});
        add_pair(layer + "intermediate.dense", {12, 8});
        add_pair(layer + "output.dense", {8, 12});
        add_pair(layer + "attention.output.LayerNorm", {8});
        add_pair(layer + "output.LayerNorm", {8});
    }
    return out;
}

/// A folder of these, written anew by each call.
inline std::string bert_folder(const TemporaryFolder& root, const BertTensors& tensors,
                               const std::string& config = kBertConfig) {
    const std::string folder = root / "bert";
    std::filesystem::create_directories(folder);
    write_file(folder + "/config.json", "{" + config + "}");
    SafetensorsWriter writer(folder + "/model.safetensors");
    for (const auto& [name, stored] : tensors) writer.add(name, Dtype::f32, stored.shape, stored.values.data());
    writer.commit();
    return folder;
}

}  // namespace ballast::test
