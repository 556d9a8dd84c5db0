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

/// A layer's heads of a list [layers, heads].
ordered_json heads_of_layer(const std::vector<double>& values, int64_t layer, int64_t heads) {
    return json_figures({values.data() + layer * heads, static_cast<size_t>(heads)});
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
                     {"curve", curve},
                     {"density", r.density},
                     {"kv_bytes", r.kv_bytes}};
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
    r.density = json.value("density", 0.0);
    r.kv_bytes = json.value("kv_bytes", int64_t{0});
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
        const auto layer_figures = [&](const std::vector<double>& values) {
            return json_figures({values.data() + l * r.positions, positions});
        };
        layers.push_back(
            {{"share", layer_figures(r.share)}, {"share_std", layer_figures(r.share_std)}, {"alpha", heads}});
        if (!r.logit_first.empty())
            layers.back()["logits"] = {{"first", heads_of_layer(r.logit_first, l, r.heads)},
                                       {"rest", heads_of_layer(r.logit_rest, l, r.heads)}};
    }
    ordered_json out{{"length", r.length},
                     {"sequences", r.sequences},
                     {"epsilon", r.epsilon},
                     {"sink_rate", json_figures(r.sink_rate)},
                     {"layers", layers}};
    if (r.whole_sentences >= 0) out["whole_sentences"] = r.whole_sentences;
    return out;
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
        if (!layer.contains("logits")) continue;
        append_figures(r.logit_first, layer["logits"].at("first"), r.heads, "logits.first");
        append_figures(r.logit_rest, layer["logits"].at("rest"), r.heads, "logits.rest");
    }
    if (!r.logit_first.empty() && r.logit_first.size() != static_cast<size_t>(r.layers * r.heads))
        throw UserError("some layers have logits and others none");
    r.whole_sentences = json.value("whole_sentences", int64_t{-1});
}

ordered_json to_json(const LastQueryResult& r) {
    ordered_json layers = ordered_json::array();
    for (int64_t l = 0; l < r.layers; ++l) {
        const Spread spread = r.layer_spread(l);
        layers.push_back({{"mean", json_figure(spread.mean)},
                          {"std", json_figure(spread.deviation)},
                          {"weight", heads_of_layer(r.weight, l, r.heads)}});
    }
    return {{"length", r.length}, {"sequences", r.sequences}, {"layers", layers}};
}

void from_json(const json& json, LastQueryResult& r) {
    r = {};
    r.length = json.at("length").get<int64_t>();
    r.sequences = json.at("sequences").get<int64_t>();
    for (const auto& layer : json.at("layers")) {
        if (r.layers++ == 0) r.heads = static_cast<int64_t>(layer.at("weight").size());
        append_figures(r.weight, layer.at("weight"), r.heads, "weight");
    }
}

ordered_json to_json(const OutlierResult& r) {
    const auto activation = [](const ActivationFigures& a) -> ordered_json {
        return {{"kurtosis", json_figure(a.kurtosis)}, {"largest", json_figure(a.largest)}};
    };
    ordered_json layers = ordered_json::array();
    for (const OutlierLayer& layer : r.layers) {
        ordered_json out;
        for (size_t i = 0; i < kLayerTensors.size(); ++i) out[kLayerTensors[i]] = activation(layer.tensors[i]);
        out["value_norm"] = {{"first", json_figure(layer.value_first)}, {"rest", json_figure(layer.value_rest)}};
        layers.push_back(out);
    }
    return {{"length", r.length},
            {"sequences", r.sequences},
            {"tokens", r.tokens},
            {"bits", r.bits},
            {"loss", json_figure(r.loss)},
            {"rounded_loss", json_figure(r.rounded_loss)},
            {"perplexity", json_figure(std::exp(r.loss))},
            {"rounded_perplexity", json_figure(std::exp(r.rounded_loss))},
            {"embedding", activation(r.embedding)},
            {"head", activation(r.head)},
            {"layers", layers}};
}

void from_json(const json& json, OutlierResult& r) {
    const auto activation = [](const nlohmann::json& a) {
        return ActivationFigures{read_figure(a.at("kurtosis")), read_figure(a.at("largest"))};
    };
    r = {};
    r.length = json.at("length").get<int64_t>();
    r.sequences = json.at("sequences").get<int64_t>();
    r.tokens = json.at("tokens").get<int64_t>();
    r.bits = json.at("bits").get<int64_t>();
    r.loss = read_figure(json.at("loss"));
    r.rounded_loss = read_figure(json.at("rounded_loss"));
    r.embedding = activation(json.at("embedding"));
    r.head = activation(json.at("head"));
    for (const auto& layer : json.at("layers")) {
        OutlierLayer& out = r.layers.emplace_back();
        for (size_t i = 0; i < kLayerTensors.size(); ++i) out.tensors[i] = activation(layer.at(kLayerTensors[i]));
        out.value_first = read_figure(layer.at("value_norm").at("first"));
        out.value_rest = read_figure(layer.at("value_norm").at("rest"));
    }
}

ordered_json to_json(const EncoderSinkResult& r) {
    ordered_json layers = ordered_json::array();
    for (int64_t l = 0; l < r.layers; ++l) {
        ordered_json layer;
        for (size_t kind = 0; kind < kEncoderTokens.size(); ++kind)
            layer[kEncoderTokens[kind]] = heads_of_layer(r.share[kind], l, r.heads);
        layers.push_back(layer);
    }
    return {{"length", r.length}, {"sequences", r.sequences}, {"layers", layers}};
}

void from_json(const json& json, EncoderSinkResult& r) {
    r = {};
    r.length = json.at("length").get<int64_t>();
    r.sequences = json.at("sequences").get<int64_t>();
    for (const auto& layer : json.at("layers")) {
        if (r.layers++ == 0) r.heads = static_cast<int64_t>(layer.at(kEncoderTokens[0]).size());
        for (size_t kind = 0; kind < kEncoderTokens.size(); ++kind)
            append_figures(r.share[kind], layer.at(kEncoderTokens[kind]), r.heads, kEncoderTokens[kind]);
    }
}

namespace {

template <class Result>
void write_mean_maps(const std::string& path, const Result& r) {
    const std::vector<int64_t> shape{r.layers, r.heads, r.length, r.length};
    SafetensorsWriter writer(path);
    writer.add("attention", Dtype::f32, shape, r.maps.data());
    writer.add("attention_logits", Dtype::f32, shape, r.logit_maps.data());
    writer.commit();
}

}  // namespace

void write_maps(const std::string& path, const SinkResult& result) { write_mean_maps(path, result); }
void write_maps(const std::string& path, const EncoderSinkResult& result) { write_mean_maps(path, result); }

}  // namespace ballast::eval
