// The differences between decoder families outside the mathematics: names of tensors, keys of config.json, the order of
// QKV. There is one file per family in model/families/. A new family needs such a file, a line in family.cpp and a
// config.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "model/parameter_table.h"

namespace ballast::model {

class ConfigJson;

/// A parameter's name in files; "{}" stands for the layer's number.
struct Spelling {
    Role role;
    std::string_view name;
};

struct Family {
    FamilyName name;
    /// The values of "model_type" in config.json that this family reads.
    std::span<const std::string_view> model_types;
    ops::QkvLayout qkv_layout;
    /// The kind of positions that this family's files express. A model without positions is exported under our own
    /// model_type; other kinds cannot be exported.
    Position position;
    /// A family without a name for query_key_value stores queries, keys and values as separate tensors.
    std::span<const Spelling> (*spellings)(const ModelConfig&);
    /// UserError that names a field which this family's files cannot express.
    void (*check)(const ModelConfig&);
    /// Sets the fields that this family's config.json gives. UserError for an unsupported setting.
    void (*read)(const ConfigJson&, ModelConfig&);
    /// The keys of a config.json of this family, "model_type" and "architectures" first.
    nlohmann::ordered_json (*write)(const ModelConfig&);
    /// False for a model that transformers' code of this family, which ignores some keys, would compute wrongly. Null:
    /// there is none.
    bool (*as_in_transformers)(const ModelConfig&) = nullptr;
};

const Family& family_of(const ModelConfig& config);
const Family& family_of(FamilyName name);
/// The family that reads a "model_type"; null when there is none.
const Family* family_of_model_type(std::string_view model_type);
/// "gpt_neox, llama, …": every supported model_type.
std::string known_model_types();

}  // namespace ballast::model
