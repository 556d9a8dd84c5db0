#include "report/metrics_log.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace ballast::report {
namespace {

using nlohmann::json;

constexpr double kMissing = std::numeric_limits<double>::quiet_NaN();

double number(const json& line, std::string_view name) {
    const auto found = line.find(name);
    return found != line.end() && found->is_number() ? found->get<double>() : kMissing;
}

class Parser {
  public:
    Parser() { log_.values.resize(kMetricNames.size()); }

    void line(std::string_view text) {
        if (text.empty()) return;
        const json value = json::parse(text, nullptr, false);
        const double step = value.is_object() ? number(value, "step") : kMissing;
        if (!(step >= 0))
            ++log_.lines_ignored;
        else if (value.contains(kMetricNames.front()))
            add_step(step, value);
        else if (value.contains("validation_loss"))
            add_validation(step, number(value, "validation_loss"));
        else
            ++log_.lines_ignored;
    }
    MetricsLog finish() { return std::move(log_); }

  private:
    void add_step(double step, const json& value) {
        cut(log_.step, step, [&] {
            log_.step.pop_back(), log_.tokens.pop_back();
            for (auto& metric : log_.values) metric.pop_back();
        });
        log_.step.push_back(step);
        log_.tokens.push_back(number(value, "tokens"));
        for (size_t i = 0; i < kMetricNames.size(); ++i) log_.values[i].push_back(number(value, kMetricNames[i]));
        const double seconds = number(value, "seconds");
        if (seconds > 0) log_.seconds += seconds;
        log_.skipped_steps += value.value("skipped", json()) == json(true);
    }
    void add_validation(double step, double loss) {
        cut(log_.validation_step, step, [&] {
            log_.validation_step.pop_back(), log_.validation_tokens.pop_back(), log_.validation_loss.pop_back();
        });
        log_.validation_step.push_back(step);
        log_.validation_tokens.push_back(log_.tokens.empty() ? kMissing : log_.tokens.back());
        log_.validation_loss.push_back(loss);
    }
    /// What a repeated step replaces.
    template <class Drop>
    static void cut(const std::vector<double>& steps, double step, const Drop& drop) {
        while (!steps.empty() && steps.back() >= step) drop();
    }

    MetricsLog log_;
};

}  // namespace

MetricsLog parse_metrics(std::string_view text) {
    Parser parser;
    for (size_t at = 0;;) {
        const size_t end = text.find('\n', at);
        if (end == std::string_view::npos) return parser.finish();
        parser.line(text.substr(at, end - at));
        at = end + 1;
    }
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
