#include "eval/figures.h"

#include <fmt/format.h>
#include <numeric>

namespace ballast::eval {

Figures figures(const StreamingResult& result) {
    const std::string name = name_of(result.policy);
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

Figures figures(const Measurement& measurement) {
    return std::visit([](const auto& m) { return figures(m); }, measurement.metrics);
}

}  // namespace ballast::eval
