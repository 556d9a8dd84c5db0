// What differs between families of decoders outside the mathematics: names of tensors, keys of config.json, the order
// of QKV. One file a family in model/families/; a new one is such a file, a line in family.cpp and a config.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "model/parameter_table.h"

namespace ballast::model {

class ConfigJson;

/// A parameter's name in files; "{}" is the layer's number.
struct Spelling {
    Role role;
    std::string_view name;
};

struct Family {
    FamilyName name;
    /// Values of "model_type" in config.json that are read.
    std::span<const std::string_view> model_types;
    ops::QkvLayout qkv_layout;
    /// What its files can say; a model with other positions is one of ours.
    Position position;
    /// A family without a name for query_key_value has queries, keys and values apart.
    std::span<const Spelling> (*spellings)(const ModelConfig&);
    /// UserError naming the field that this family's files cannot express.
    void (*check)(const ModelConfig&);
    /// Fills the fields that this family's config.json says; UserError for what it asks and we do not have.
    void (*read)(const ConfigJson&, ModelConfig&);
    /// The keys of such a config.json, "model_type" and "architectures" first.
    nlohmann::ordered_json (*write)(const ModelConfig&);
};

const Family& family_of(const ModelConfig& config);
const Family& family_of(FamilyName name);
/// Of a "model_type"; null when there is none.
const Family* family_of_model_type(std::string_view model_type);
/// "gpt_neox, llama, …": every model_type that is read.
std::string known_model_types();

}  // namespace ballast::model
