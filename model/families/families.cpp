#include "model/families/families.h"

#include <algorithm>
#include <array>
#include <utility>

namespace ballast::model {
namespace {

using nlohmann::ordered_json;

constexpr std::array<std::pair<std::string_view, Activation>, 6> kActivations{
    {{"gelu", Activation::gelu_erf},
     {"gelu_new", Activation::gelu_tanh},
     {"gelu_fast", Activation::gelu_tanh},
     {"gelu_pytorch_tanh", Activation::gelu_tanh},
     {"silu", Activation::swiglu},
     {"swish", Activation::swiglu}}};

/// What each rope type reads besides rope_type, rope_theta and partial_rotary_factor.
std::vector<std::string_view> keys_of(RopeScalingKind kind) {
    switch (kind) {
        case RopeScalingKind::none: return {};
        case RopeScalingKind::linear:
        case RopeScalingKind::dynamic: return {"factor"};
        case RopeScalingKind::llama3:
            return {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"};
        case RopeScalingKind::yarn:
            return {"factor",           "original_max_position_embeddings",
                    "attention_factor", "beta_fast",
                    "beta_slow",        "mscale",
                    "mscale_all_dim",   "truncate",
                    "finetuned"};  // of the original code; it and transformers compute the same whatever it says
    }
    return {};
}

RopeScalingKind kind_of(const ConfigJson& rope) {
    const char* key = rope.has("rope_type") ? "rope_type" : "type";  // what transformers 4 called it
    const auto name = rope.get_or<std::string>(key, "default");
    if (name == "default") return RopeScalingKind::none;
    for (size_t i = 1; i < kRopeScalingNames.size(); ++i)
        if (name == kRopeScalingNames[i]) return static_cast<RopeScalingKind>(i);
    throw UserError(fmt::format("{}: {} \"{}\" is not supported; default, linear, dynamic, llama3 and yarn are",
                                rope.path(), key, name));
}

void refuse_other_keys(const ConfigJson& rope, RopeScalingKind kind) {
    const auto known = keys_of(kind);
    for (const std::string& key : rope.keys())
        if (key != "rope_type" && key != "type" && key != "rope_theta" && key != "partial_rotary_factor" &&
            std::find(known.begin(), known.end(), key) == known.end())
            throw UserError(fmt::format("{}: the key \"{}\" is not supported", rope.path(), key));
}

RopeScaling read_scaling(const ConfigJson& rope, int64_t max_position_embeddings) {
    RopeScaling s;
    s.kind = kind_of(rope);
    refuse_other_keys(rope, s.kind);
    if (s.kind == RopeScalingKind::none) return s;
    s.original_max_position_embeddings = rope.get_or<int64_t>("original_max_position_embeddings", 0);
    if (s.kind == RopeScalingKind::yarn && !rope.has("factor") && s.original_max_position_embeddings > 0)
        s.factor =
            static_cast<double>(max_position_embeddings) / static_cast<double>(s.original_max_position_embeddings);
    else
        s.factor = rope.get<double>("factor");
    s.low_freq_factor = rope.get_or("low_freq_factor", s.low_freq_factor);
    s.high_freq_factor = rope.get_or("high_freq_factor", s.high_freq_factor);
    s.beta_fast = rope.get_or("beta_fast", s.beta_fast);
    s.beta_slow = rope.get_or("beta_slow", s.beta_slow);
    s.attention_factor = rope.get_or("attention_factor", s.attention_factor);
    s.mscale = rope.get_or("mscale", s.mscale);
    s.mscale_all_dim = rope.get_or("mscale_all_dim", s.mscale_all_dim);
    s.truncate = rope.get_or("truncate", s.truncate);
    return s;
}

/// What is said of one thing under two keys of the top level must agree: transformers has changed its mind about which
/// wins. (What stands inside rope_scaling or rope_parameters always wins.)
void require_agreement(const ConfigJson& file, const char* key, double value) {
    if (file.get_or(key, value) != value)
        throw UserError(fmt::format("{}: \"{}\" is {}, but the model's own keys say {}; make them agree", file.path(),
                                    key, file.get<double>(key), value));
}

}  // namespace

void require_of_family(bool holds, FamilyName family, std::string_view field, std::string_view wanted) {
    if (!holds)
        throw UserError(fmt::format("model.{} does not go with model.family = \"{}\": {}", field,
                                    kFamilyNames[static_cast<size_t>(family)], wanted));
}

Activation activation_of(const std::string& name, const std::string& where) {
    for (const auto& [known, activation] : kActivations)
        if (name == known) return activation;
    std::vector<std::string_view> names;
    for (const auto& [known, activation] : kActivations) names.push_back(known);
    throw UserError(fmt::format("{}: activation \"{}\" is not supported; {} are", where, name, fmt::join(names, ", ")));
}

std::string_view name_of(Activation activation) {
    switch (activation) {
        case Activation::gelu_tanh: return "gelu_pytorch_tanh";
        case Activation::gelu_erf: return "gelu";
        case Activation::swiglu: return "silu";
    }
    return "";
}

void read_rope(const ConfigJson& file, const RopeKeys& keys, ModelConfig& config) {
    config.rotary_base = file.get_or(keys.base, config.rotary_base);
    if (keys.share != nullptr) config.rotary_pct = file.get_or(keys.share, config.rotary_pct);
    const bool scaling = file.has("rope_scaling") && !file.inside("rope_scaling").keys().empty();
    const char* key = scaling ? "rope_scaling" : "rope_parameters";
    double share = keys.share != nullptr ? config.rotary_pct : file.get_or("partial_rotary_factor", config.rotary_pct);
    bool base_inside = false, share_inside = false;
    if (file.has(key)) {
        const ConfigJson rope = file.inside(key);
        base_inside = rope.has("rope_theta");
        share_inside = rope.has("partial_rotary_factor");
        config.rope_scaling = read_scaling(rope, config.max_position_embeddings);
        config.rotary_base = rope.get_or("rope_theta", config.rotary_base);
        share = rope.get_or("partial_rotary_factor", share);
    }
    if (keys.share != nullptr) {
        config.rotary_pct = share;
        if (!base_inside) require_agreement(file, "rope_theta", config.rotary_base);
        if (!share_inside) require_agreement(file, "partial_rotary_factor", config.rotary_pct);
    } else if (share != 1 && config.rope_scaling.kind != RopeScalingKind::none) {  // without scaling it is ignored
        throw UserError(
            fmt::format("{}: partial_rotary_factor {} is not supported with a rope_type", file.path(), share));
    }
}

ordered_json rope_scaling_json(const ModelConfig& config) {
    const RopeScaling& s = config.rope_scaling;
    if (s.kind == RopeScalingKind::none) return nullptr;
    ordered_json out{{"rope_type", kRopeScalingNames[static_cast<size_t>(s.kind)]}, {"factor", s.factor}};
    const auto add = [&](const char* key, auto value, bool said) {
        if (said) out[key] = value;
    };
    add("original_max_position_embeddings", s.original_max_position_embeddings, s.original_max_position_embeddings > 0);
    if (s.kind == RopeScalingKind::llama3) {
        out["low_freq_factor"] = s.low_freq_factor;
        out["high_freq_factor"] = s.high_freq_factor;
    }
    if (s.kind == RopeScalingKind::yarn) {
        out["beta_fast"] = s.beta_fast;
        out["beta_slow"] = s.beta_slow;
        out["truncate"] = s.truncate;
        add("attention_factor", s.attention_factor, s.attention_factor > 0);
        add("mscale", s.mscale, s.mscale > 0);
        add("mscale_all_dim", s.mscale_all_dim, s.mscale_all_dim > 0);
    }
    return out;
}

}  // namespace ballast::model
