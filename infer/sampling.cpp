#include "infer/sampling.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>

#include "base/error.h"

namespace ballast::infer {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

float largest(std::span<const float> logits) { return *std::max_element(logits.begin(), logits.end()); }

/// As a float, of which filters can take differences.
float limited(double logit) {
    constexpr double kMost = std::numeric_limits<float>::max();
    return static_cast<float>(std::clamp(logit, -kMost, kMost));
}

void require_setting(bool holds, const char* name, double value, const char* range) {
    if (!holds) throw UserError(fmt::format("{} is {}; it must be {}", name, value, range));
}

}  // namespace

void SamplingParams::validate() const {
    require_setting(temperature >= 0 && std::isfinite(temperature), "temperature", temperature, "at least 0");
    require_setting(top_k >= 0, "top_k", static_cast<double>(top_k), "at least 0 (0: all)");
    require_setting(top_p > 0 && top_p <= 1, "top_p", top_p, "above 0 and at most 1");
    require_setting(min_p >= 0 && min_p <= 1, "min_p", min_p, "between 0 and 1");
    require_setting(repetition_penalty > 0 && std::isfinite(repetition_penalty), "repetition_penalty",
                    repetition_penalty, "above 0");
    require_setting(std::isfinite(presence_penalty), "presence_penalty", presence_penalty, "a number");
    require_setting(std::isfinite(frequency_penalty), "frequency_penalty", frequency_penalty, "a number");
}

int32_t sample(std::span<const float> logits, double temperature, double uniform) {
    const auto top = std::max_element(logits.begin(), logits.end());
    if (temperature <= 0) return static_cast<int32_t>(top - logits.begin());
    const auto weight = [&](float logit) { return std::exp((static_cast<double>(logit) - *top) / temperature); };
    double total = 0;
    for (float logit : logits) total += weight(logit);
    double left = uniform * total;
    auto last = static_cast<int32_t>(top - logits.begin());  // where rounding leaves something over
    for (size_t i = 0; i < logits.size(); ++i) {
        const double w = weight(logits[i]);
        if (w > 0) last = static_cast<int32_t>(i);
        if ((left -= w) < 0) return static_cast<int32_t>(i);
    }
    return last;
}

std::vector<double> log_probs(std::span<const float> logits, std::span<const int32_t> ids) {
    const double top = largest(logits);
    double total = 0;
    for (float logit : logits) total += std::exp(static_cast<double>(logit) - top);
    const double log_total = top + std::log(total);
    std::vector<double> out;
    for (const int32_t id : ids) out.push_back(static_cast<double>(logits[static_cast<size_t>(id)]) - log_total);
    return out;
}

std::vector<int32_t> most_likely(std::span<const float> logits, int64_t count) {
    std::vector<int32_t> ids(logits.size());
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i);
    const auto end = ids.begin() + std::min(count, std::ssize(ids));
    std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
        const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
        return x != y ? x > y : a < b;
    });
    ids.erase(end, ids.end());
    return ids;
}

void keep_top_k(std::span<float> logits, int64_t k) {
    if (k <= 0 || k >= std::ssize(logits)) return;
    std::vector<float> sorted(logits.begin(), logits.end());
    std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
    const float threshold = sorted[static_cast<size_t>(k - 1)];
    for (float& logit : logits)
        if (logit < threshold) logit = kOut;
}

void keep_top_p(std::span<float> logits, double p) {
    if (p >= 1) return;
    const double top = largest(logits);
    struct Candidate {
        double weight;
        int32_t id;
        bool operator<(const Candidate& other) const {
            return weight != other.weight ? weight < other.weight : id > other.id;
        }
    };
    std::vector<Candidate> heap;
    double total = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
        const double weight = std::exp(static_cast<double>(logits[i]) - top);
        if (weight > 0) heap.push_back({weight, static_cast<int32_t>(i)});
        total += weight;
    }
    std::make_heap(heap.begin(), heap.end());
    std::vector<float> kept(logits.size(), kOut);
    for (double reached = 0; !heap.empty() && reached < p * total; heap.pop_back()) {
        std::pop_heap(heap.begin(), heap.end());
        const auto at = static_cast<size_t>(heap.back().id);
        kept[at] = logits[at];
        reached += heap.back().weight;
    }
    std::copy(kept.begin(), kept.end(), logits.begin());
}

void keep_min_p(std::span<float> logits, double min_p) {
    if (min_p <= 0) return;
    const double top = largest(logits);
    for (float& logit : logits)
        if (std::exp(static_cast<double>(logit) - top) < min_p) logit = kOut;
}

bool all_finite(std::span<const float> logits) {
    return std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
}

Sampler::Sampler(const SamplingParams& params, int64_t num_ids)
    : params_(params), num_ids_(num_ids), random_(params.seed, fmt::format("text {}", params.stream)) {
    params.validate();
    require(num_ids > 0, "nothing to draw from");
}

void Sampler::add_prompt(std::span<const int32_t> ids) { seen_.insert(ids.begin(), ids.end()); }

void Sampler::penalise(std::span<float> logits) const {
    const auto change = [&](int32_t id, auto&& new_value) {
        if (id < num_ids_)
            logits[static_cast<size_t>(id)] = limited(new_value(static_cast<double>(logits[static_cast<size_t>(id)])));
    };
    if (params_.repetition_penalty != 1)
        for (const int32_t id : seen_)
            change(id,
                   [&](double x) { return x > 0 ? x / params_.repetition_penalty : x * params_.repetition_penalty; });
    if (params_.frequency_penalty == 0 && params_.presence_penalty == 0) return;
    for (const auto& [id, count] : counts_)
        change(id, [&, n = count](double x) {
            return x - params_.frequency_penalty * static_cast<double>(n) - params_.presence_penalty;
        });
}

SampledToken Sampler::next(std::span<const float> logits) {
    require(std::ssize(logits) >= num_ids_, "logits for another vocabulary");
    logits_.assign(logits.begin(), logits.begin() + num_ids_);
    penalise(logits_);
    SampledToken out;
    if (params_.temperature == 0) {
        out.id = sample(logits_, 0, 0);
    } else {
        // Divided by less, logits would all be the largest number there is.
        const double temperature = std::max(params_.temperature, 1e-30);
        for (float& logit : logits_) logit = limited(static_cast<double>(logit) / temperature);
        keep_top_k(logits_, params_.top_k);
        keep_top_p(logits_, params_.top_p);
        keep_min_p(logits_, params_.min_p);
        out.id = sample(logits_, 1, uniform());
    }
    ++drawn_;
    seen_.insert(out.id);
    ++counts_[out.id];
    if (params_.alternatives < 0) return out;
    std::vector<int32_t> ids = most_likely(logits, params_.alternatives);
    ids.push_back(out.id);
    const std::vector<double> values = log_probs(logits, ids);
    for (size_t i = 0; i + 1 < ids.size(); ++i) out.alternatives.push_back({ids[i], values[i]});
    out.log_prob = values.back();
    return out;
}

}  // namespace ballast::infer
