// The supported families, and what their files have in common.
#pragma once

#include "model/config_json.h"
#include "model/family.h"

namespace ballast::model {

extern const Family kGptNeox, kLlama, kMpt, kFalcon;

/// UserError "model.<field> = … does not go with model.family = …" unless `holds`.
void require_of_family(bool holds, FamilyName family, std::string_view field, std::string_view wanted);

/// The activation with this name (gelu, gelu_new, silu, …). UserError that names `where` for an unsupported one.
Activation activation_of(const std::string& name, const std::string& where);
/// The activation's name in transformers. For a gated MLP it is the name of the gate's activation.
std::string_view name_of(Activation activation);

/// A family's own keys for the rope base and the rotated share, beside "rope_theta" and "partial_rotary_factor".
struct RopeKeys {
    const char* base = "rope_theta";
    const char* share = nullptr;  // absent: all dims rotate
};
/// Reads the rope base, the rotated share and the scaling, with the precedence of transformers 5: a rope_scaling that
/// is not empty replaces rope_parameters, and values in either take precedence over the keys beside them.
void read_rope(const ConfigJson& file, const RopeKeys& keys, ModelConfig& config);
/// "rope_scaling" in the spelling of transformers 4, which transformers 5 reads too; null without scaling.
nlohmann::ordered_json rope_scaling_json(const ModelConfig& config);

}  // namespace ballast::model
