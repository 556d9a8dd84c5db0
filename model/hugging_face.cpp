#include "model/hugging_face.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/config_visitor.h"
#include "base/json_file.h"

namespace ballast::model {
namespace {

using nlohmann::json;

constexpr std::string_view kOwnModelType = "ballast_gpt_neox";

/// One value of a config.json, with errors that name the file and the key.
class ConfigFile {
  public:
    explicit ConfigFile(std::string path) : path_(std::move(path)), json_(read_json_file(path_)) {
        if (!json_.is_object()) throw UserError(fmt::format("{}: not a JSON object", path_));
    }

    bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
    ConfigFile inside(const char* key) const { return ConfigFile(path_ + ":" + key, json_.at(key)); }

    template <class T>
    T get(const char* key) const {
        if (!has(key)) throw UserError(fmt::format("{}: the key \"{}\" is missing", path_, key));
        try {
            const json& value = json_[key];
            if constexpr (std::is_same_v<T, int64_t>)
                if (!value.is_number_integer())
                    throw UserError(fmt::format("{}: \"{}\" is not a whole number", path_, key));
            return value.get<T>();
        } catch (const json::exception&) {
            throw UserError(fmt::format("{}: \"{}\" has another type than expected", path_, key));
        }
    }
    template <class T>
    T get_or(const char* key, T fallback) const {
        return has(key) ? get<T>(key) : fallback;
    }

    const std::string& path() const { return path_; }
    std::vector<std::string> keys() const {
        std::vector<std::string> out;
        for (const auto& [key, value] : json_.items()) out.push_back(key);
        return out;
    }

  private:
    ConfigFile(std::string path, json value) : path_(std::move(path)), json_(std::move(value)) {
        if (!json_.is_object()) throw UserError(fmt::format("{}: not a JSON object", path_));
    }

    std::string path_;
    json json_;
};

ops::Gelu gelu_of(const std::string& name, const std::string& where) {
    if (name == "gelu") return ops::Gelu::erf;
    for (const char* tanh : {"gelu_new", "gelu_fast", "gelu_pytorch_tanh"})
        if (name == tanh) return ops::Gelu::tanh;
    throw UserError(fmt::format(
        "{}: hidden_act \"{}\" is not supported; gelu, gelu_new, gelu_fast and gelu_pytorch_tanh are", where, name));
}

template <size_t n>
int index_of(const std::array<std::string_view, n>& names, const std::string& name, const std::string& where,
             const char* key) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) throw UserError(fmt::format("{}: {} \"{}\" is unknown", where, key, name));
    return static_cast<int>(found - names.begin());
}

/// Refuses the keys of a RoPE dictionary that would ask for rotations other than ours.
void require_plain_rope(const ConfigFile& rope) {
    const char* kind = rope.has("rope_type") ? "rope_type" : "type";  // what transformers 4 called it
    if (const auto type = rope.get_or<std::string>(kind, "default"); type != "default")
        throw UserError(fmt::format("{}: {} \"{}\" is not supported; \"default\" is", rope.path(), kind, type));
    for (const std::string& key : rope.keys())
        if (key != "rope_type" && key != "type" && key != "rope_theta" && key != "partial_rotary_factor")
            throw UserError(fmt::format("{}: the key \"{}\" is not supported", rope.path(), key));
}

/// Rotary settings with the precedence of transformers 5: a rope_scaling that is not empty stands in the place of
/// rope_parameters, and what either says wins over the keys of older files beside it.
void read_rope(const ConfigFile& file, ModelConfig& config) {
    config.rotary_base = file.get_or("rotary_emb_base", config.rotary_base);
    config.rotary_pct = file.get_or("rotary_pct", config.rotary_pct);
    const bool scaling = file.has("rope_scaling") && !file.inside("rope_scaling").keys().empty();
    const char* key = scaling ? "rope_scaling" : "rope_parameters";
    if (file.has(key)) {
        const ConfigFile rope = file.inside(key);
        require_plain_rope(rope);
        config.rotary_base = rope.get_or("rope_theta", config.rotary_base);
        config.rotary_pct = rope.get_or("partial_rotary_factor", config.rotary_pct);
    }
    // Other families' names for the two. What transformers makes of them here has changed between its versions.
    for (const auto& [name, value] :
         {std::pair("rope_theta", config.rotary_base), std::pair("partial_rotary_factor", config.rotary_pct)})
        if (file.get_or(name, value) != value)
            throw UserError(fmt::format("{}: \"{}\" is {}, but the model's own keys say {}; make them agree",
                                        file.path(), name, file.get<double>(name), value));
}

/// Sink tokens are rows of the embedding, so their ids must be there. (In TOML the id may be left to the tokenizer.)
void require_sink_token_id(const ConfigFile& file, const ModelConfig& config) {
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
        double value = 0;
        if (const auto* whole = std::get_if<int64_t*>(&field.value))
            value = static_cast<double>(**whole);
        else if (const auto* real = std::get_if<double*>(&field.value))
            value = **real;
        else
            return;
        if (!(value >= field.bounds.min && value <= field.bounds.max))
            throw UserError(fmt::format("{}: {} = {} is out of range ({} to {})", where_, field.name, value,
                                        field.bounds.min, field.bounds.max));
    }

  private:
    std::string where_;
};

bool is_buffer_of_old_files(const std::string& name) {
    return name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
           name.ends_with(".attention.rotary_emb.inv_freq");
}

constexpr std::string_view kHeadName = "embed_out.weight", kHeadAlias = "lm_head.weight";

void refuse_unknown_tensors(const SafetensorsFolder& file, const ParameterTable& table, const std::string& folder) {
    for (const auto& name : file.names()) {
        const bool head = name == kHeadAlias || name == kHeadName;  // a tied model's file may repeat the embedding
        if (!head && table.find(name) == nullptr && !is_buffer_of_old_files(name))
            throw UserError(fmt::format("{}: tensor {} does not belong to the model of config.json", folder, name));
    }
}

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

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

nlohmann::ordered_json export_config(const ModelConfig& config, const ExportOptions& options) {
    const bool plain = config.normaliser == Normaliser::softmax && config.position == Position::rope;
    nlohmann::ordered_json out;
    out["architectures"] = {plain ? "GPTNeoXForCausalLM" : "BallastGPTNeoXForCausalLM"};
    out["model_type"] = plain ? "gpt_neox" : kOwnModelType;
    out["vocab_size"] = config.vocab_size;
    out["hidden_size"] = config.hidden_size;
    out["num_hidden_layers"] = config.num_layers;
    out["num_attention_heads"] = config.num_heads;
    out["intermediate_size"] = config.feed_forward_dim();
    out["hidden_act"] = !options.hidden_act.empty()            ? options.hidden_act
                        : config.hidden_act == ops::Gelu::tanh ? "gelu_pytorch_tanh"
                                                               : "gelu";
    out["max_position_embeddings"] = config.max_position_embeddings;
    out["rotary_pct"] = config.rotary_pct;
    out["rotary_emb_base"] = config.rotary_base;
    out["layer_norm_eps"] = config.layer_norm_eps;
    out["use_parallel_residual"] = config.parallel_residual;
    out["tie_word_embeddings"] = config.tie_word_embeddings;
    out["attention_bias"] = true;
    out["attention_dropout"] = 0.0;
    out["hidden_dropout"] = 0.0;
    out["initializer_range"] = 0.02;
    out["use_cache"] = true;
    out["bos_token_id"] = options.end_of_text_id;
    out["eos_token_id"] = options.end_of_text_id;
    out["torch_dtype"] = options.dtype == Dtype::bf16  ? "bfloat16"
                         : options.dtype == Dtype::f16 ? "float16"
                                                       : "float32";
    out["ballast_normaliser"] = kNormaliserNames[static_cast<size_t>(config.normaliser)];
    out["ballast_position"] = kPositionNames[static_cast<size_t>(config.position)];
    out["ballast_num_sink_tokens"] = config.num_sink_tokens;
    out["ballast_sink_token_id"] = config.sink_token_id;
    return out;
}

}  // namespace

ModelConfig read_hugging_face_config(const std::string& folder) {
    const ConfigFile file((std::filesystem::path(folder) / "config.json").string());
    const auto type = file.get<std::string>("model_type");
    if (type != "gpt_neox" && type != kOwnModelType)
        throw UserError(fmt::format("{}: model_type \"{}\" is not supported; gpt_neox (Pythia) is", file.path(), type));

    ModelConfig config;
    config.vocab_size = file.get<int64_t>("vocab_size");
    config.hidden_size = file.get<int64_t>("hidden_size");
    config.num_layers = file.get<int64_t>("num_hidden_layers");
    config.num_heads = file.get<int64_t>("num_attention_heads");
    config.intermediate_size = file.get<int64_t>("intermediate_size");
    config.max_position_embeddings = file.get_or<int64_t>("max_position_embeddings", 2048);
    config.layer_norm_eps = file.get_or("layer_norm_eps", 1e-5);
    config.hidden_act = gelu_of(file.get_or<std::string>("hidden_act", "gelu"), file.path());
    config.parallel_residual = file.get_or("use_parallel_residual", true);
    config.tie_word_embeddings = file.get_or("tie_word_embeddings", false);
    read_rope(file, config);
    config.normaliser =
        static_cast<Normaliser>(index_of(kNormaliserNames, file.get_or<std::string>("ballast_normaliser", "softmax"),
                                         file.path(), "ballast_normaliser"));
    config.position = static_cast<Position>(index_of(
        kPositionNames, file.get_or<std::string>("ballast_position", "rope"), file.path(), "ballast_position"));
    config.num_sink_tokens = file.get_or<int64_t>("ballast_num_sink_tokens", 0);
    config.sink_token_id = file.get_or<int64_t>("ballast_sink_token_id", -1);
    BoundsCheck check(file.path());
    config.visit(check);
    config.validate();
    require_sink_token_id(file, config);
    return config;
}

void read_hugging_face_weights(const std::string& folder, Context& context, Weights& weights) {
    const SafetensorsFolder file(folder);
    refuse_unknown_tensors(file, weights.table(), folder);
    for (const auto& row : weights.table().rows()) {
        std::string name = row.name;
        if (name == kHeadName && !file.has(name)) name = kHeadAlias;
        if (!file.has(name)) throw UserError(fmt::format("{}: tensor {} is missing", folder, row.name));
        if (file.info(name).shape != row.shape)
            throw UserError(fmt::format("{}: tensor {} has shape {}, but config.json asks for {}", folder, name,
                                        shape_text(file.info(name).shape), shape_text(row.shape)));
        std::vector<float> values(static_cast<size_t>(row.count));
        file.read_f32(name, values);
        weights.write(context, row, values.data());
    }
    weights.refresh_compute(context);
}

void write_hugging_face(const std::string& folder, const Context& context, const ModelConfig& config,
                        const Weights& weights, const ExportOptions& options) {
    if (config.position == Position::alibi)
        throw UserError(
            "a model with ALiBi positions cannot be exported: GPT-NeoX has only rotary ones; keep using the "
            "checkpoint");
    if (!options.hidden_act.empty()) gelu_of(options.hidden_act, "--hidden-act");

    std::vector<std::vector<char>> stored;
    SafetensorsFolderWriter writer(folder, options.max_shard_bytes);
    for (const auto& row : weights.table().rows()) {
        const std::vector<float> values = context.read_floats(weights.master(row));
        stored.push_back(options.dtype == Dtype::bf16  ? rounded_bytes<bf16>(values)
                         : options.dtype == Dtype::f16 ? rounded_bytes<f16>(values)
                                                       : rounded_bytes<float>(values));
        if (options.dtype == Dtype::f16) require_range_of_fp16(row.name, values);
        writer.add(row.name, options.dtype, row.shape, stored.back().data());
    }
    writer.commit();
    const std::filesystem::path path(folder);
    nlohmann::ordered_json generation{{"_from_model_config", true}};
    generation["bos_token_id"] = generation["eos_token_id"] = options.end_of_text_id;
    write_json_file((path / "generation_config.json").string(), generation);
    write_json_file((path / "config.json").string(), export_config(config, options));
}

}  // namespace ballast::model
