// A run's metrics.jsonl in any state: growing, incomplete, truncated or foreign.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::report {

/// The plotted numbers of a step's line. A line that has the first one is a step's line.
inline constexpr std::array<std::string_view, 5> kMetricNames{"loss", "grad_norm", "lr", "tokens_per_second",
                                                              "loss_scale"};

struct MetricsLog {
    std::vector<double> step, tokens;         // of each step's line, ascending by step
    std::vector<std::vector<double>> values;  // [metric][line]; NaN: null or absent
    std::vector<double> validation_step, validation_tokens, validation_loss;
    double seconds = 0;         // total seconds of the steps
    int64_t skipped_steps = 0;  // fp16 gradients that overflowed, and spikes
    int64_t lines_ignored = 0;  // lines of neither a step nor a validation
};

/// Reads every readable line. A line that is not our JSON is counted and skipped; an incomplete last line (a run is
/// writing it) is not counted. Where steps repeat, for example after a resume from a damaged file, the later lines are
/// kept.
MetricsLog parse_metrics(std::string_view text);

/// The same piece by piece, for a growing file: feed() takes the next bytes, which may end anywhere.
class MetricsParser {
  public:
    MetricsParser();
    void feed(std::string_view text);
    const MetricsLog& log() const { return log_; }

  private:
    void line(std::string_view text);

    MetricsLog log_;
    std::string rest_;  // the beginning of a line whose end has not arrived
};

/// Values in buckets, so that a long run stays small and its spikes stay visible.
struct Buckets {
    std::vector<double> mean, min, max;  // over the finite values of a bucket; NaN where it has none
};

/// The ends (exclusive) of at most `limit` buckets of `count` values, as equal in size as possible.
std::vector<size_t> bucket_ends(size_t count, size_t limit);
Buckets downsample(const std::vector<double>& values, const std::vector<size_t>& ends);

}  // namespace ballast::report
