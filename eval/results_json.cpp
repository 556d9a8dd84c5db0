#include "eval/results_json.h"

#include <nlohmann/json.hpp>

#include "base/json_figure.h"
#include "base/safetensors.h"

namespace ballast::eval {

using nlohmann::ordered_json;

ordered_json to_json(const StreamingResult& r) {
    ordered_json curve = ordered_json::array();
    for (const auto& point : r.curve)
        curve.push_back({{"position", point.position}, {"tokens", point.tokens}, {"loss", json_figure(point.loss)}});
    return {{"policy", r.policy},
            {"sinks", r.sinks},
            {"cache", r.cache},
            {"method", r.method},
            {"tokens", r.tokens},
            {"of_tokens", r.of_tokens},
            {"non_finite", r.non_finite},
            {"loss", json_figure(r.loss)},
            {"perplexity", json_figure(r.perplexity)},
            {"seconds", r.seconds},
            {"curve", curve}};
}

ordered_json to_json(const SinkResult& r) {
    const auto positions = static_cast<size_t>(r.positions);
    ordered_json layers = ordered_json::array();
    for (int64_t l = 0; l < r.layers; ++l) {
        ordered_json heads = ordered_json::array();
        for (int64_t h = 0; h < r.heads; ++h) {
            heads.push_back(json_figures({r.alpha.data() + (l * r.heads + h) * r.positions, positions}));
        }
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

void write_maps(const std::string& path, const SinkResult& r) {
    SafetensorsWriter writer(path);
    writer.add("attention", Dtype::f32, std::vector<int64_t>{r.layers, r.heads, r.length, r.length}, r.maps.data());
    writer.commit();
}

}  // namespace ballast::eval
