#include "report/metrics_log.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace ballast::report {
namespace {

using nlohmann::json;

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

double number(const json& line, std::string_view name) {
    const auto found = line.find(name);
    return found != line.end() && found->is_number() ? found->get<double>() : kMissing;
}

/// What a repeated step replaces.
template <class Drop>
void cut(const std::vector<double>& steps, double step, const Drop& drop) {
    while (!steps.empty() && steps.back() >= step) drop();
}

void add_step(MetricsLog& log, double step, const json& value) {
    cut(log.step, step, [&] {
        log.step.pop_back(), log.tokens.pop_back();
        for (auto& metric : log.values) metric.pop_back();
    });
    log.step.push_back(step);
    log.tokens.push_back(number(value, "tokens"));
    for (size_t i = 0; i < kMetricNames.size(); ++i) log.values[i].push_back(number(value, kMetricNames[i]));
    const double seconds = number(value, "seconds");
    if (seconds > 0) log.seconds += seconds;
    if (const auto skipped = value.find("skipped"); skipped != value.end()) log.skipped_steps += *skipped == true;
}

void add_validation(MetricsLog& log, double step, double loss) {
    cut(log.validation_step, step,
        [&] { log.validation_step.pop_back(), log.validation_tokens.pop_back(), log.validation_loss.pop_back(); });
    log.validation_step.push_back(step);
    log.validation_tokens.push_back(log.tokens.empty() ? kMissing : log.tokens.back());
    log.validation_loss.push_back(loss);
}

}  // namespace

MetricsParser::MetricsParser() { log_.values.resize(kMetricNames.size()); }

void MetricsParser::line(std::string_view text) {
    if (text.empty()) return;
    const json value = json::parse(text, nullptr, false);
    const double step = value.is_object() ? number(value, "step") : kMissing;
    if (!(step >= 0))
        ++log_.lines_ignored;
    else if (value.contains(kMetricNames.front()))
        add_step(log_, step, value);
    else if (value.contains("validation_loss"))
        add_validation(log_, step, number(value, "validation_loss"));
    else
        ++log_.lines_ignored;
}

void MetricsParser::feed(std::string_view text) {
    for (size_t end; (end = text.find('\n')) != std::string_view::npos; text.remove_prefix(end + 1)) {
        if (rest_.empty()) {
            line(text.substr(0, end));
        } else {
            rest_ += text.substr(0, end);
            line(std::exchange(rest_, {}));
        }
    }
    rest_ += text;
}

MetricsLog parse_metrics(std::string_view text) {
    MetricsParser parser;
    parser.feed(text);
    return parser.log();
}

std::vector<size_t> bucket_ends(size_t count, size_t limit) {
    const size_t buckets = std::min(count, limit);
    std::vector<size_t> ends(buckets);
    for (size_t i = 0; i < buckets; ++i) ends[i] = (i + 1) * count / buckets;
    return ends;
}

Buckets downsample(const std::vector<double>& values, const std::vector<size_t>& ends) {
    Buckets out;
    size_t at = 0;
    for (const size_t end : ends) {
        double sum = 0, low = kMissing, high = kMissing, count = 0;
        for (; at < end; ++at) {
            if (!std::isfinite(values[at])) continue;
            sum += values[at], ++count;
            low = std::fmin(low, values[at]), high = std::fmax(high, values[at]);  // these pass over NaN
        }
        out.mean.push_back(count > 0 ? sum / count : kMissing);
        out.min.push_back(low);
        out.max.push_back(high);
    }
    return out;
}

}  // namespace ballast::report
