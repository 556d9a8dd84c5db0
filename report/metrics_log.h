// A run's metrics.jsonl, whatever state it is in: growing, torn, cut or somebody else's.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::report {

/// The numbers of a step's line that are plotted; the first is what makes a line a step's.
inline constexpr std::array<std::string_view, 5> kMetricNames{"loss", "grad_norm", "lr", "tokens_per_second",
                                                              "loss_scale"};

struct MetricsLog {
    std::vector<double> step, tokens;         // of each step's line; steps ascend
    std::vector<std::vector<double>> values;  // [metric][line]; NaN: null or absent
    std::vector<double> validation_step, validation_tokens, validation_loss;
    double seconds = 0;         // spent in steps
    int64_t skipped_steps = 0;  // fp16 gradients that overflowed, and spikes
    int64_t lines_ignored = 0;  // neither a step's nor a validation's
};

/// Reads what can be read. A line that is not JSON of ours is counted and passed over; a last line without its end (a
/// run that is writing it) is not even counted. Where steps repeat, as after a resume of a damaged file, the later ones
/// hold.
MetricsLog parse_metrics(std::string_view text);

/// The same piece by piece, for a file that grows: feed() takes the next bytes, wherever they end.
class MetricsParser {
  public:
    MetricsParser();
    void feed(std::string_view text);
    const MetricsLog& log() const { return log_; }

  private:
    void line(std::string_view text);

    MetricsLog log_;
    std::string rest_;  // of a line whose end has not come yet
};

/// Values in buckets, so that a long run stays small and its spikes stay visible.
struct Buckets {
    std::vector<double> mean, min, max;  // over the finite values of a bucket; NaN where it has none
};

/// Ends (exclusive) of at most `limit` buckets of `count` values, as even as can be.
std::vector<size_t> bucket_ends(size_t count, size_t limit);
Buckets downsample(const std::vector<double>& values, const std::vector<size_t>& ends);

}  // namespace ballast::report
