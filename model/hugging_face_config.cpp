#include <algorithm>
#include <array>
#include <filesystem>

#include "base/config_visitor.h"
#include "model/families/families.h"
#include "model/hugging_face.h"
#include "model/hugging_face_config.h"

namespace ballast::model {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kOwnPrefix = "ballast_";  // of a model_type that transformers is to refuse

template <size_t n>
int index_of(const std::array<std::string_view, n>& names, const std::string& name, const std::string& where,
             const char* key) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) throw UserError(fmt::format("{}: {} \"{}\" is unknown", where, key, name));
    return static_cast<int>(found - names.begin());
}

/// Keys of ours, which any family's file may have.
void read_own_keys(const ConfigJson& file, ModelConfig& config) {
    const auto choice = [&](const auto& names, const char* key, auto value) {
        const auto name = file.get_or<std::string>(key, std::string(names[static_cast<size_t>(value)]));
        return static_cast<decltype(value)>(index_of(names, name, file.path(), key));
    };
    config.normaliser = choice(kNormaliserNames, "ballast_normaliser", config.normaliser);
    config.position = choice(kPositionNames, "ballast_position", config.position);
    config.gate = choice(kGateNames, "ballast_gate", config.gate);
    config.num_sink_tokens = file.get_or<int64_t>("ballast_num_sink_tokens", 0);
    config.sink_token_id = file.get_or<int64_t>("ballast_sink_token_id", -1);
    config.attention_span = file.get_or("ballast_attention_span", config.attention_span);
}

/// Sink tokens are rows of the embedding, so their ids must be there. (In TOML the id may be left to the tokenizer.)
void require_sink_token_id(const ConfigJson& file, const ModelConfig& config) {
    if (config.num_sink_tokens > 0 && config.sink_token_id < 0)
        throw UserError(
            fmt::format("{}: ballast_num_sink_tokens is {}, but ballast_sink_token_id does not say which ids they "
                        "have; add the first one's",
                        file.path(), config.num_sink_tokens));
}

/// Holds a config that did not come from TOML to the same bounds.
class BoundsCheck : public FieldVisitor {
  public:
    explicit BoundsCheck(std::string where) : where_(std::move(where)) {}
    void section(std::string_view, std::string_view) override {}

  protected:
    void on_field(const Field& field) override {
        if (const auto* whole = std::get_if<int64_t*>(&field.value)) check(field, static_cast<double>(**whole));
        if (const auto* real = std::get_if<double*>(&field.value)) check(field, **real);
        if (const auto* list = std::get_if<std::vector<int64_t>*>(&field.value))
            for (const int64_t value : **list) check(field, static_cast<double>(value));
    }

  private:
    void check(const Field& field, double value) const {
        if (!(value >= field.bounds.min && value <= field.bounds.max))
            throw UserError(fmt::format("{}: {} = {} is out of range ({} to {})", where_, field.name, value,
                                        field.bounds.min, field.bounds.max));
    }

    std::string where_;
};

/// With the family's own model_type, as a family's reader goes by it: Mistral's windows, Qwen2's biases.
ConfigJson without_prefix(const ConfigJson& file) {
    const auto type = file.get<std::string>("model_type");
    return type.starts_with(kOwnPrefix) ? file.with("model_type", type.substr(kOwnPrefix.size())) : file;
}

/// A family's windows come in its own keys or, where it has none for them, in ours.
bool family_says_windows(const Family& family, const ModelConfig& config, const ordered_json& json) {
    ModelConfig back;
    family.read(ConfigJson("config.json", nlohmann::json(json)), back);
    for (int64_t l = 0; l < config.num_layers; ++l)
        if (back.span_of_layer(l) != config.span_of_layer(l)) return false;
    return true;
}

/// Sink tokens stay visible through our windows, but not through those of transformers.
bool has_sinks_behind_windows(const ModelConfig& config) {
    return config.num_sink_tokens > 0 &&
           std::any_of(config.attention_span.begin(), config.attention_span.end(), [](int64_t s) { return s > 0; });
}

}  // namespace

ModelConfig read_hugging_face_config(const std::string& folder) {
    const ConfigJson file = without_prefix(ConfigJson((std::filesystem::path(folder) / "config.json").string()));
    const auto type = file.get<std::string>("model_type");
    const Family* family = family_of_model_type(type);
    if (family == nullptr)
        throw UserError(
            fmt::format("{}: model_type \"{}\" is not supported; {} are", file.path(), type, known_model_types()));
    ModelConfig config;
    config.family = family->name;
    family->read(file, config);
    read_own_keys(file, config);
    BoundsCheck check(file.path());
    config.visit(check);
    try {
        config.validate();
    } catch (const UserError& error) {
        throw UserError(fmt::format("{}: {}", file.path(), error.what()));
    }
    require_sink_token_id(file, config);
    return config;
}

ordered_json hugging_face_config(const ModelConfig& config) {
    constexpr std::array<std::string_view, 3> kPositions{"rotary positions", "ALiBi", "no positions"};
    const Family& family = family_of(config);
    if (config.position != family.position && config.position != Position::none)
        throw UserError(fmt::format(
            "a model of the family {} with {} cannot be exported: its files can only say {}; keep using the checkpoint",
            kFamilyNames[static_cast<size_t>(config.family)], kPositions[static_cast<size_t>(config.position)],
            kPositions[static_cast<size_t>(family.position)]));
    ordered_json out = family.write(config);
    const bool windows = family_says_windows(family, config, out);
    const bool plain = config.normaliser == Normaliser::softmax && config.gate == Gate::none &&
                       config.position == family.position && windows && !has_sinks_behind_windows(config) &&
                       (family.as_in_transformers == nullptr || family.as_in_transformers(config));
    if (!plain) {
        const auto architecture = out["architectures"][0].get<std::string>();
        out["architectures"] = {"Ballast" + architecture};
        out["model_type"] = std::string(kOwnPrefix) + out["model_type"].get<std::string>();
    }
    out["ballast_normaliser"] = kNormaliserNames[static_cast<size_t>(config.normaliser)];
    out["ballast_position"] = kPositionNames[static_cast<size_t>(config.position)];
    out["ballast_num_sink_tokens"] = config.num_sink_tokens;
    // Null without sink tokens: transformers warns of ids outside the vocabulary under any key that ends like this one.
    out["ballast_sink_token_id"] = config.sink_token_id >= 0 ? ordered_json(config.sink_token_id) : ordered_json();
    if (config.gate != Gate::none) out["ballast_gate"] = kGateNames[static_cast<size_t>(config.gate)];
    if (!windows) out["ballast_attention_span"] = config.attention_span;
    return out;
}

}  // namespace ballast::model
