// The families there are, and what their files have in common.
#pragma once

#include "model/config_json.h"
#include "model/family.h"

namespace ballast::model {

extern const Family kGptNeox, kLlama, kMpt, kFalcon;

/// UserError "model.<field> = … does not go with model.family = …" unless `holds`.
void require_of_family(bool holds, FamilyName family, std::string_view field, std::string_view wanted);

/// The activation of this name (gelu, gelu_new, silu, …); UserError naming `where` for one that we do not have.
Activation activation_of(const std::string& name, const std::string& where);
/// transformers' name of it. A gated MLP's is its gate's.
std::string_view name_of(Activation activation);

/// Keys that a family has for base and rotated share, beside "rope_theta" and "partial_rotary_factor".
struct RopeKeys {
    const char* base = "rope_theta";
    const char* share = nullptr;  // absent: all dims rotate
};
/// Base, rotated share and scaling, with the precedence of transformers 5: a rope_scaling that is not empty stands in
/// the place of rope_parameters; what either says wins over the keys beside it.
void read_rope(const ConfigJson& file, const RopeKeys& keys, ModelConfig& config);
/// "rope_scaling" in the spelling of transformers 4, which 5 reads; null without scaling.
nlohmann::ordered_json rope_scaling_json(const ModelConfig& config);

}  // namespace ballast::model
