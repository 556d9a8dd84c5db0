#include "eval/figures.h"

#include <cmath>
#include <fmt/format.h>
#include <numeric>

#include "base/larger_or_nan.h"

namespace ballast::eval {

Figures figures(const StreamingResult& result) {
    const std::string name = label_of(result);
    Figures out{{{"perplexity", name, result.perplexity, true}}, {}};
    if (result.tokens < result.of_tokens)
        out.notes.push_back(
            fmt::format("Perplexity, {}: scored on {} of {} tokens, so not to be compared with other columns.", name,
                        result.tokens, result.of_tokens));
    if (result.non_finite > 0) out.notes.push_back(fmt::format("Perplexity, {}: {}.", name, non_finite_text(result)));
    return out;
}

Figures figures(const SinkResult& result) {
    if (result.layers == 0 || result.positions == 0) return {};
    double first = 0;
    for (int64_t l = 0; l < result.layers; ++l) first += result.share[static_cast<size_t>(l * result.positions)];
    const double all = std::accumulate(result.share.begin(), result.share.end(), 0.0);
    const auto layers = static_cast<double>(result.layers);
    return {{{"attention", "position 1", first / layers},
             {"attention", fmt::format("positions 1-{}", result.positions), all / layers},
             {"attention", "Sink_1 %", 100 * result.sink_rate.front()}},
            {fmt::format("Attention: share that the first positions of {} get, sink tokens counting as positions, "
                         "mean over layers, heads and queries; Sink_1: heads that give position 1 more than {:g} %.",
                         result.length, 100 * result.epsilon)}};
}

Figures figures(const LastQueryResult& result) {
    if (result.layers == 0) return {};
    double mean = 0;
    for (int64_t l = 0; l < result.layers; ++l)
        mean += result.layer_spread(l).mean / static_cast<double>(result.layers);
    return {{{"attention", fmt::format("query {} on position 1", result.length), mean}},
            {fmt::format("Attention: share that the last of {} queries gives position 1, mean over layers and heads.",
                         result.length)}};
}

Figures figures(const OutlierResult& result) {
    ActivationFigures most;
    for (const OutlierLayer& layer : result.layers) {
        const ActivationFigures& residual = layer.tensors[static_cast<size_t>(LayerTensor::residual)];
        most.kurtosis = larger_or_nan(most.kurtosis, residual.kurtosis);
        most.largest = larger_or_nan(most.largest, residual.largest);
    }
    const std::string rounded = fmt::format("perplexity, {} bits", result.bits);
    return {
        {{"outliers", "kurtosis", most.kurtosis, true},
         {"outliers", "largest", most.largest, true},
         {"outliers", "perplexity", std::exp(result.loss), true},
         {"outliers", rounded, std::exp(result.rounded_loss), true}},
        {fmt::format("Outliers: kurtosis and largest absolute value of the residual stream after the layer that has "
                     "most; perplexity over {} tokens as it is, and with every linear layer's input rounded to {} "
                     "bits.",
                     result.tokens, result.bits)}};
}

Figures figures(const EncoderSinkResult& result) {
    Figures out;
    for (size_t kind = 0; kind < kEncoderTokens.size(); ++kind)
        out.values.push_back({"attention", kEncoderTokens[kind], spread_of(result.share[kind]).mean});
    out.notes.push_back(
        "Attention: share that [CLS], [SEP] and the rest of an encoder's tokens get, mean over layers and heads.");
    return out;
}

Figures figures(const Measurement& measurement) {
    Figures out = std::visit([](const auto& m) { return figures(m); }, measurement.metrics);
    if (!measurement.weights.empty())
        for (Figure& figure : out.values) figure.name += ", " + measurement.weights;
    return out;
}

}  // namespace ballast::eval
