// A BERT's folder: config.json and the weights.
#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <map>

#include "base/arena.h"
#include "base/safetensors.h"
#include "model/bert.h"
#include "model/config_json.h"
#include "model/tensor_disagreements.h"

namespace ballast::model {
namespace {

constexpr const char* kModelType = "bert";

ops::Gelu gelu_of(const ConfigJson& file) {
    const auto name = file.get_or<std::string>("hidden_act", "gelu");
    if (name == "gelu") return ops::Gelu::erf;
    for (const char* tanh : {"gelu_new", "gelu_fast", "gelu_pytorch_tanh"})
        if (name == tanh) return ops::Gelu::tanh;
    throw UserError(
        fmt::format("{}: hidden_act \"{}\" is not supported; gelu, gelu_new, gelu_fast and "
                    "gelu_pytorch_tanh are",
                    file.path(), name));
}

int64_t count(const ConfigJson& file, const char* key) {
    constexpr int64_t kMost = int64_t{1} << 24;
    const auto value = file.get<int64_t>(key);
    if (value < 1 || value > kMost)
        throw UserError(fmt::format("{}: \"{}\" is {}; it must be from 1 to {}", file.path(), key, value, kMost));
    return value;
}

/// The name that the weights have without the prefix of task models, and with today's names of a norm's two.
std::string plain_name(std::string name) {
    if (name.starts_with("bert.")) name.erase(0, 5);
    for (const auto& [old, now] : {std::pair<std::string, std::string>{".gamma", ".weight"}, {".beta", ".bias"}})
        if (name.ends_with("LayerNorm" + old)) name.replace(name.size() - old.size(), old.size(), now);
    return name;
}

/// Heads of tasks, the pooler, and a buffer of old files.
bool is_passed_over(const std::string& name) {
    return name == "embeddings.position_ids" || !(name.starts_with("embeddings.") || name.starts_with("encoder."));
}

}  // namespace

bool is_bert_folder(const std::string& folder) {
    const std::string path = (std::filesystem::path(folder) / "config.json").string();
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return false;
    try {
        return ConfigJson(path).get_or<std::string>("model_type", "") == kModelType;
    } catch (const UserError&) {
        return false;
    }
}

BertConfig read_bert_config(const std::string& folder) {
    const ConfigJson file((std::filesystem::path(folder) / "config.json").string());
    file.require<std::string>("model_type", kModelType, "this reads encoders of type bert");
    file.require("is_decoder", false, "only encoders are read");
    file.require("add_cross_attention", false, "only encoders are read");
    file.require<std::string>("position_embedding_type", "absolute", "only learned absolute positions are read");
    BertConfig config;
    config.vocab_size = count(file, "vocab_size");
    config.hidden_size = count(file, "hidden_size");
    config.num_layers = count(file, "num_hidden_layers");
    config.num_heads = count(file, "num_attention_heads");
    config.intermediate_size = count(file, "intermediate_size");
    config.max_position_embeddings = count(file, "max_position_embeddings");
    config.type_vocab_size = count(file, "type_vocab_size");
    config.layer_norm_eps = file.get_or("layer_norm_eps", config.layer_norm_eps);
    config.hidden_act = gelu_of(file);
    if (config.hidden_size % config.num_heads != 0)
        throw UserError(fmt::format("{}: hidden_size {} is no multiple of num_attention_heads {}", file.path(),
                                    config.hidden_size, config.num_heads));
    constexpr int64_t kLargestHeadDim = 256;  // as attention takes them
    if (config.head_dim() > kLargestHeadDim)
        throw UserError(fmt::format("{}: hidden_size / num_attention_heads is {}; at most {} are supported",
                                    file.path(), config.head_dim(), kLargestHeadDim));
    return config;
}

std::vector<Bert::Place> Bert::places() {
    const int64_t C = config_.hidden_size, F = config_.intermediate_size;
    std::vector<Place> out{
        {"embeddings.word_embeddings.weight", {config_.vocab_size, C}, &word_embeddings_},
        {"embeddings.position_embeddings.weight", {config_.max_position_embeddings, C}, &position_embeddings_},
        {"embeddings.token_type_embeddings.weight", {config_.type_vocab_size, C}, &token_type_embeddings_}};
    const auto add_norm = [&](const std::string& name, Norm& norm) {
        out.push_back({name + ".LayerNorm.weight", {C}, &norm.weight});
        out.push_back({name + ".LayerNorm.bias", {C}, &norm.bias});
    };
    const auto add_linear = [&](const std::string& name, ops::LinearWeight& linear, int64_t outputs, int64_t inputs) {
        out.push_back({name + ".weight", {outputs, inputs}, &linear.weight});
        out.push_back({name + ".bias", {outputs}, &linear.bias});
    };
    add_norm("embeddings", embedding_norm_);
    for (size_t l = 0; l < layers_.size(); ++l) {
        Layer& layer = layers_[l];
        const std::string prefix = fmt::format("encoder.layer.{}.", l);
        add_linear(prefix + "attention.self.query", layer.query, C, C);
        add_linear(prefix + "attention.self.key", layer.key, C, C);
        add_linear(prefix + "attention.self.value", layer.value, C, C);
        add_linear(prefix + "attention.output.dense", layer.attention_dense, C, C);
        add_norm(prefix + "attention.output", layer.attention_norm);
        add_linear(prefix + "intermediate.dense", layer.intermediate, F, C);
        add_linear(prefix + "output.dense", layer.output, C, F);
        add_norm(prefix + "output", layer.output_norm);
    }
    return out;
}

void Bert::read_weights(Context& context, const std::string& folder) {
    const SafetensorsFolder files(folder);
    std::map<std::string, std::string> stored;  // our name -> the file's
    for (const std::string& name : files.names())
        if (const std::string plain = plain_name(name); !is_passed_over(plain)) stored[plain] = name;
    const std::vector<Place> all = places();
    std::vector<std::string> wrong;
    for (const Place& place : all) {
        if (const auto found = stored.find(place.name); found == stored.end())
            wrong.push_back(missing_tensor(place.name));
        else if (const auto& shape = files.info(found->second).shape; shape != place.shape)
            wrong.push_back(misshapen_tensor(found->second, shape, place.shape));
    }
    for (const auto& [plain, name] : stored)
        if (std::none_of(all.begin(), all.end(), [&](const Place& place) { return place.name == plain; }))
            wrong.push_back(foreign_tensor(name));
    require_none(folder, wrong);

    const auto lay_out = [&](Arena& arena) {
        for (const Place& place : all)
            *place.tensor = place.shape.size() == 1 ? arena.tensor(Dtype::f32, {place.shape[0]})
                                                    : arena.tensor(Dtype::f32, {place.shape[0], place.shape[1]});
    };
    Arena plan;
    lay_out(plan);
    if (plan.peak_bytes() > context.available_memory())
        throw UserError(fmt::format("{}: its weights take {} MiB in f32, and {} MiB are available", folder,
                                    plan.peak_bytes() >> 20, context.available_memory() >> 20));
    buffer_ = context.allocate(plan.peak_bytes());
    Arena arena(buffer_.data(), buffer_.bytes());
    lay_out(arena);
    for (const Place& place : all) {
        std::vector<float> values(static_cast<size_t>(place.tensor->numel()));
        files.read_f32(stored.at(place.name), values);
        context.copy_from_host(*place.tensor, values.data());
    }
}

}  // namespace ballast::model
