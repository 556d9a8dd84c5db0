#include "model/hugging_face.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/atomic_file.h"
#include "base/json_file.h"
#include "base/log.h"
#include "model/families/families.h"
#include "model/hugging_face_config.h"
#include "model/tensor_disagreements.h"

namespace ballast::model {
namespace {

constexpr std::array<std::string_view, 4> kOldBuffers{".attention.bias", ".attention.masked_bias",
                                                      ".rotary_emb.inv_freq", ".attn.bias"};
constexpr std::array<std::string_view, 2> kHeadNames{"embed_out.weight", "lm_head.weight"};

bool is_buffer_of_old_files(const std::string& name) {
    return std::any_of(kOldBuffers.begin(), kOldBuffers.end(), [&](auto end) { return name.ends_with(end); });
}

bool is_head(const std::string& name) {
    return std::find(kHeadNames.begin(), kHeadNames.end(), name) != kHeadNames.end();
}

/// The file's name of a parameter: the head has two. Empty when it is missing.
std::string name_in(const SafetensorsFolder& file, const ParameterRow& row) {
    if (file.has(row.name)) return row.name;
    if (row.role == Role::embed_out)
        for (const auto name : kHeadNames)
            if (file.has(std::string(name))) return std::string(name);
    return "";
}

/// What the folder lacks, has too much of, or has in another shape.
std::vector<std::string> disagreements(const SafetensorsFolder& file, const ParameterTable& table) {
    std::vector<std::string> out;
    for (const auto& row : table.rows()) {
        const std::string name = name_in(file, row);
        if (name.empty())
            out.push_back(missing_tensor(row.name));
        else if (const auto& shape = file.info(name).shape; shape != row.shape)
            out.push_back(misshapen_tensor(name, shape, row.shape));
    }
    for (const auto& name : file.names())  // a tied model's file may repeat the embedding as its head
        if (!is_head(name) && table.find(name) == nullptr && !is_buffer_of_old_files(name))
            out.push_back(foreign_tensor(name));
    return out;
}

/// A head of its own in the file of a tied model: transformers 5 would use it, older versions the embedding, as here.
void warn_of_other_head(const std::string& folder, const SafetensorsFolder& file, const ParameterTable& table) {
    const ParameterRow* embedding = table.find(Role::embed_in);
    if (table.has(Role::embed_out) || embedding == nullptr) return;
    for (const std::string_view head_name : kHeadNames) {
        const std::string name(head_name);
        if (!file.has(name) || file.info(name).shape != embedding->shape) continue;
        std::vector<float> head(static_cast<size_t>(embedding->count)), tied(head.size());
        file.read_f32(name, head);
        file.read_f32(embedding->name, tied);
        if (std::memcmp(head.data(), tied.data(), head.size() * sizeof(float)) != 0)
            log_warning(
                fmt::format("{}: {} differs from {}, but config.json says tie_word_embeddings, so it is not "
                            "used; set that to false if the model was trained with a head of its own",
                            folder, name, embedding->name));
    }
}

template <class T>
std::vector<char> rounded_bytes(const std::vector<float>& values) {
    std::vector<char> bytes(values.size() * sizeof(T));
    auto* to = reinterpret_cast<T*>(bytes.data());
    for (size_t i = 0; i < values.size(); ++i) to[i] = T(values[i]);
    return bytes;
}

/// fp16 ends at 65504; an infinite weight would be found out only by whoever loads the file.
void require_range_of_fp16(const std::string& name, const std::vector<float>& values) {
    for (float x : values)
        if (std::isfinite(x) && !std::isfinite(static_cast<float>(f16(x))))
            throw UserError(
                fmt::format("tensor {} holds {}, which fp16 cannot; export with --dtype bf16 or f32", name, x));
}

void write_token_ids(const SpecialTokenIds& ids, nlohmann::ordered_json& out) {
    if (ids.begin >= 0)
        out["bos_token_id"] = ids.begin;
    else if (ids.says_none)
        out["bos_token_id"] = nullptr;
    if (ids.end.size() == 1)
        out["eos_token_id"] = ids.end.front();
    else if (!ids.end.empty())
        out["eos_token_id"] = ids.end;
    else if (ids.says_none)
        out["eos_token_id"] = nullptr;
    if (ids.pad >= 0) out["pad_token_id"] = ids.pad;
}

nlohmann::ordered_json export_config(const ModelConfig& config, const ExportOptions& options) {
    nlohmann::ordered_json out = hugging_face_config(config);
    if (!options.hidden_act.empty()) {
        activation_of(options.hidden_act, "--hidden-act");
        const char* key = out.contains("activation") ? "activation" : "hidden_act";
        if (config.gated() || !out.contains(key))
            throw UserError("--hidden-act is for the GELU of GPT-NeoX and Falcon; leave it out");
        out[key] = options.hidden_act;
    }
    out["initializer_range"] = 0.02;
    out["use_cache"] = true;
    write_token_ids(options.token_ids, out);
    out["torch_dtype"] = options.dtype == Dtype::bf16  ? "bfloat16"
                         : options.dtype == Dtype::f16 ? "float16"
                                                       : "float32";
    return out;
}

}  // namespace

void read_hugging_face_weights(const std::string& folder, Context& context, Weights& weights) {
    const SafetensorsFolder file(folder);
    require_none(folder, disagreements(file, weights.table()));
    warn_of_other_head(folder, file, weights.table());
    std::vector<float> values;
    for (const auto& row : weights.table().rows()) {
        values.resize(static_cast<size_t>(row.count));
        file.read_f32(name_in(file, row), values);
        weights.write(context, row, values.data());
    }
    weights.refresh_compute(context);
}

void write_hugging_face(const std::string& folder, const Context& context, const ModelConfig& config,
                        const Weights& weights, const ExportOptions& options) {
    const nlohmann::ordered_json config_json = export_config(config, options);  // refuses before anything is written
    std::vector<std::vector<char>> stored;
    SafetensorsFolderWriter writer(folder, options.max_shard_bytes);
    for (const auto& row : weights.table().rows()) {
        const std::vector<float> values = weights.read(context, row);
        stored.push_back(options.dtype == Dtype::bf16  ? rounded_bytes<bf16>(values)
                         : options.dtype == Dtype::f16 ? rounded_bytes<f16>(values)
                                                       : rounded_bytes<float>(values));
        if (options.dtype == Dtype::f16) require_range_of_fp16(row.name, values);
        writer.add(row.name, options.dtype, row.shape, stored.back().data());
    }
    const std::filesystem::path path(folder);
    // The last to come and the first to go: without it nobody takes what is half of an older export for a model.
    if (std::filesystem::remove(path / "config.json")) sync_folder(folder);
    writer.commit();
    options.write_others();
    nlohmann::ordered_json generation{{"_from_model_config", true}};
    write_token_ids(options.generation_ids ? *options.generation_ids : options.token_ids, generation);
    write_json_file((path / "generation_config.json").string(), generation);
    write_json_file((path / "config.json").string(), config_json);
}

}  // namespace ballast::model
