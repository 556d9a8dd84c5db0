#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/config_visitor.h"
#include "model/config.h"

namespace ballast::model {
namespace {

using std::numbers::pi;

/// Positions the frequencies were trained on.
double trained_length(const ModelConfig& config) {
    const int64_t original = config.rope_scaling.original_max_position_embeddings;
    return static_cast<double>(original > 0 ? original : config.max_position_embeddings);
}

/// Low frequencies are divided by the factor, high ones kept, those between interpolated.
void scale_llama3(std::vector<double>& inverse, const RopeScaling& scaling, double length) {
    for (double& f : inverse) {
        const double turns = length * f / (2 * pi);
        const double kept = std::clamp(
            (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor), 0.0, 1.0);
        f = kept * f + (1 - kept) * f / scaling.factor;
    }
}

/// Dims that turn more than beta_fast times over the trained length keep their frequency, those that turn less than
/// beta_slow times are divided by the factor.
void scale_yarn(std::vector<double>& inverse, const RopeScaling& scaling, double base, double length) {
    const auto R = 2.0 * static_cast<double>(inverse.size());
    const auto dim_of_turns = [&](double turns) {
        return R * std::log(length / (2 * pi * turns)) / (2 * std::log(base));
    };
    double low = dim_of_turns(scaling.beta_fast), high = dim_of_turns(scaling.beta_slow);
    if (scaling.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0), high = std::min(high, R - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < inverse.size(); ++i) {
        const double slow = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        inverse[i] = inverse[i] * (1 - slow) + inverse[i] / scaling.factor * slow;
    }
}

double yarn_attention_factor(const RopeScaling& scaling) {
    if (scaling.attention_factor > 0) return scaling.attention_factor;
    const auto magnitude = [&](double mscale) {
        return scaling.factor <= 1 ? 1.0 : 0.1 * mscale * std::log(scaling.factor) + 1;
    };
    if (scaling.mscale != 0 && scaling.mscale_all_dim != 0)
        return magnitude(scaling.mscale) / magnitude(scaling.mscale_all_dim);
    return magnitude(1.0);
}

}  // namespace

void RopeScaling::visit(FieldVisitor& v) {
    v.section("model.rope_scaling", "Rotary frequencies for more positions than they were trained on");
    v.field("kind", kind, kRopeScalingNames, "which of transformers' rope types; none: as trained");
    v.field("factor", factor, "how many times longer sequences are to be", {.min = 1, .max = 1e6});
    v.field("original_max_position_embeddings", original_max_position_embeddings,
            "llama3, yarn: positions of the training before; 0: model.max_position_embeddings",
            {.min = 0, .max = 1 << 30});
    v.field("low_freq_factor", low_freq_factor, "llama3: frequencies of fewer turns are divided by factor", {.min = 0});
    v.field("high_freq_factor", high_freq_factor, "llama3: frequencies of more turns stay", {.min = 0});
    v.field("beta_fast", beta_fast, "yarn: frequencies of more turns stay", {.min = 0});
    v.field("beta_slow", beta_slow, "yarn: frequencies of fewer turns are divided by factor", {.min = 0});
    v.field("attention_factor", attention_factor, "yarn: multiplies cosine and sine; 0: 0.1 ln(factor) + 1",
            {.min = 0});
    v.field("mscale", mscale, "yarn: with mscale_all_dim, another way to say attention_factor; 0: absent", {.min = 0});
    v.field("mscale_all_dim", mscale_all_dim, "yarn: see mscale", {.min = 0});
    v.field("truncate", truncate, "yarn: round the bounds between the dims that stay and those that are divided");
}

bool rope_depends_on_length(const ModelConfig& config) {
    return config.rotary_dims() > 0 && config.rope_scaling.kind == RopeScalingKind::dynamic;
}

RopeFrequencies rope_frequencies(const ModelConfig& config, int64_t sequence_length) {
    const RopeScaling& scaling = config.rope_scaling;
    const int64_t R = config.rotary_dims();
    double base = config.rotary_base;
    if (scaling.kind == RopeScalingKind::dynamic) {
        const auto trained = static_cast<double>(config.max_position_embeddings);
        const double length = std::max(static_cast<double>(sequence_length), trained);
        const auto dims = static_cast<double>(R);
        base *= std::pow(scaling.factor * length / trained - (scaling.factor - 1), dims / (dims - 2));
    }
    RopeFrequencies out;
    for (int64_t i = 0; i < R / 2; ++i)
        out.inverse.push_back(std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(R)));
    switch (scaling.kind) {
        case RopeScalingKind::none:
        case RopeScalingKind::dynamic: break;
        case RopeScalingKind::linear:
            for (double& f : out.inverse) f /= scaling.factor;
            break;
        case RopeScalingKind::llama3: scale_llama3(out.inverse, scaling, trained_length(config)); break;
        case RopeScalingKind::yarn:
            scale_yarn(out.inverse, scaling, base, trained_length(config));
            out.attention_factor = yarn_attention_factor(scaling);
            break;
    }
    return out;
}

}  // namespace ballast::model
