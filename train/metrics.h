// The metrics of a run: one line per step on the console, and the same as JSON in metrics.jsonl.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ballast::train {

struct StepMetrics {
    int64_t step = 0;          // batches done
    double loss = 0;           // mean over the step's targets, natural log
    double grad_norm = 0;      // before clipping
    double learning_rate = 0;  // of this update
    int64_t tokens = 0;        // input positions read since the start of the run, under any settings
    double seconds = 0;        // of this step
    double tokens_per_second = 0;
    std::optional<double> loss_scale;         // of this step, in fp16
    bool skipped = false;                     // nothing was updated
    std::string why_skipped;                  // the spike that was the reason; empty: fp16 gradients overflowed
    std::optional<int64_t> rolled_back_from;  // the step with the spike from which the run went back to this step
    std::string why_rolled_back;
};

/// "step 12/1000 | loss 5.1234 | norm 0.934 | lr 1.20e-04 | 12,345 tok/s | 83 ms". In fp16 with "scale 4096", and with
/// "skipped" after the rate when nothing was updated.
std::string format_step(const StepMetrics& metrics, int64_t last_step);

/// Appends JSON lines to a file, with one write(2) per line. A line that the disk refuses is a UserError and leaves the
/// file as it was.
class JsonLines {
  public:
    /// UserError when the file cannot be opened for appending.
    explicit JsonLines(std::string path);
    ~JsonLines();
    JsonLines(const JsonLines&) = delete;
    JsonLines& operator=(const JsonLines&) = delete;

    void append(const StepMetrics& metrics);
    void append_validation(int64_t step, double loss);
    void append_sample(int64_t step, const std::string& prompt, const std::string& text);
    /// Syncs the lines so far to the disk, before a checkpoint of the same state is saved. A failure is left to the
    /// next call: the checkpoint is more important. Another thread may append meanwhile.
    void sync() const noexcept;

  private:
    void append_line(std::string line);

    std::string path_;
    int descriptor_ = -1;
};

}  // namespace ballast::train
