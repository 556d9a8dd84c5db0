// Rotary frequencies, and the scaling methods that change them to read texts longer than the trained length.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace ballast {
class FieldVisitor;
}

namespace ballast::model {

struct ModelConfig;

enum class RopeScalingKind { none, linear, dynamic, llama3, yarn };
/// The names in config files and in the rope_type of a config.json, in the order of the enumerators.
inline constexpr std::array<std::string_view, 5> kRopeScalingNames{"none", "linear", "dynamic", "llama3", "yarn"};

/// The settings of transformers' rope_parameters under the same names. Each kind reads only its own settings.
struct RopeScaling {
    RopeScalingKind kind = RopeScalingKind::none;
    double factor = 1.0;
    int64_t original_max_position_embeddings = 0;  // llama3, yarn; 0: the model's max_position_embeddings
    double low_freq_factor = 1.0;                  // llama3
    double high_freq_factor = 4.0;                 // llama3
    double beta_fast = 32.0;                       // yarn
    double beta_slow = 1.0;                        // yarn
    double attention_factor = 0.0;                 // yarn; 0: from factor, or from mscale and mscale_all_dim
    double mscale = 0.0;                           // yarn; 0: absent
    double mscale_all_dim = 0.0;                   // yarn; 0: absent
    bool truncate = true;                          // yarn: its bounds are whole dims

    void visit(FieldVisitor& visitor);
    bool operator==(const RopeScaling&) const = default;
};

/// Pair i of dims rotates by position * inverse[i]. cos and sin are multiplied by `attention_factor` (1 except for
/// yarn).
struct RopeFrequencies {
    std::vector<double> inverse;  // [rotary_dims / 2]
    double attention_factor = 1.0;
};

/// base^(-2i/R), scaled as the config says. `dynamic` (NTK-aware scaling of the base) depends on the length of the
/// sequence: all keys of the sequence take the angles for that length. All formulas are from transformers'
/// modeling_rope_utils; llama3 is Meta's Llama 3.1, yarn is Peng et al. 2023.
RopeFrequencies rope_frequencies(const ModelConfig& config, int64_t sequence_length);

/// True when the angles of a sequence depend on its length.
bool rope_depends_on_length(const ModelConfig& config);

}  // namespace ballast::model
