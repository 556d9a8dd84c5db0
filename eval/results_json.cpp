#include "eval/results_json.h"

#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_figure.h"
#include "base/safetensors.h"

namespace ballast::eval {
namespace {

using nlohmann::json, nlohmann::ordered_json;

/// Appends a list that must have `count` figures.
void append_figures(std::vector<double>& to, const json& list, int64_t count, const char* name) {
    const std::vector<double> values = read_figures(list);
    if (static_cast<int64_t>(values.size()) != count)
        throw UserError(fmt::format("{} has {} figures where the first layer has {}", name, values.size(), count));
    to.insert(to.end(), values.begin(), values.end());
}

}  // namespace

ordered_json to_json(const StreamingResult& r) {
    ordered_json curve = ordered_json::array();
    for (const auto& point : r.curve)
        curve.push_back({{"position", point.position}, {"tokens", point.tokens}, {"loss", json_figure(point.loss)}});
    ordered_json out{{"policy", kind_name(r.policy)},
                     {"sinks", sink_positions(r.policy)},
                     {"cache", total_positions(r.policy)},
                     {"method", r.method},
                     {"tokens", r.tokens},
                     {"of_tokens", r.of_tokens},
                     {"non_finite", r.non_finite},
                     {"loss", json_figure(r.loss)},
                     {"perplexity", json_figure(r.perplexity)},
                     {"seconds", r.seconds},
                     {"curve", curve}};
    if (!r.plan.empty()) out["plan"] = r.plan;
    return out;
}

void from_json(const json& json, StreamingResult& r) {
    r.policy = make_policy(json.at("policy").get<std::string>(), json.at("sinks").get<int64_t>(),
                           json.at("cache").get<int64_t>());
    r.plan = json.value("plan", "");
    r.method = json.value("method", "");
    r.tokens = json.at("tokens").get<int64_t>();
    r.of_tokens = json.at("of_tokens").get<int64_t>();
    r.non_finite = json.value("non_finite", int64_t{0});
    r.perplexity = read_figure(json.at("perplexity"));
    r.loss = json.contains("loss") ? read_figure(json["loss"]) : std::log(r.perplexity);
    r.seconds = json.value("seconds", 0.0);
    r.curve.clear();
    for (const auto& point : json.at("curve"))
        r.curve.push_back(
            {point.at("position").get<int64_t>(), point.at("tokens").get<int64_t>(), read_figure(point.at("loss"))});
}

ordered_json to_json(const SinkResult& r) {
    const auto positions = static_cast<size_t>(r.positions);
    ordered_json layers = ordered_json::array();
    for (int64_t l = 0; l < r.layers; ++l) {
        ordered_json heads = ordered_json::array();
        for (int64_t h = 0; h < r.heads; ++h)
            heads.push_back(json_figures({r.alpha.data() + (l * r.heads + h) * r.positions, positions}));
        const auto of_layer = [&](const std::vector<double>& values) {
            return json_figures({values.data() + l * r.positions, positions});
        };
        layers.push_back({{"share", of_layer(r.share)}, {"share_std", of_layer(r.share_std)}, {"alpha", heads}});
    }
    return {{"length", r.length},
            {"sequences", r.sequences},
            {"epsilon", r.epsilon},
            {"sink_rate", json_figures(r.sink_rate)},
            {"layers", layers}};
}

void from_json(const json& json, SinkResult& r) {
    r = {};
    r.length = json.at("length").get<int64_t>();
    r.sequences = json.at("sequences").get<int64_t>();
    r.epsilon = json.at("epsilon").get<double>();
    r.sink_rate = read_figures(json.at("sink_rate"));
    r.positions = static_cast<int64_t>(r.sink_rate.size());
    const auto& layers = json.at("layers");
    r.layers = static_cast<int64_t>(layers.size());
    for (const auto& layer : layers) {
        append_figures(r.share, layer.at("share"), r.positions, "share");
        append_figures(r.share_std, layer.at("share_std"), r.positions, "share_std");
        const auto heads = layer.value("alpha", nlohmann::json::array());
        if (r.alpha.empty()) r.heads = static_cast<int64_t>(heads.size());
        if (static_cast<int64_t>(heads.size()) != r.heads) throw UserError("layers of different numbers of heads");
        for (const auto& head : heads) append_figures(r.alpha, head, r.positions, "alpha");
    }
}

void write_maps(const std::string& path, const SinkResult& r) {
    SafetensorsWriter writer(path);
    writer.add("attention", Dtype::f32, std::vector<int64_t>{r.layers, r.heads, r.length, r.length}, r.maps.data());
    writer.commit();
}

}  // namespace ballast::eval
