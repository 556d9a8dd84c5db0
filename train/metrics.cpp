#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"

namespace ballast::train {
namespace {

std::string with_thousands(double value) {
    std::string digits = fmt::format("{:.0f}", value);
    for (auto at = static_cast<int64_t>(digits.size()) - 3; at > 0; at -= 3)
        digits.insert(static_cast<size_t>(at), ",");
    return digits;
}

}  // namespace

std::string format_step(const StepMetrics& m, int64_t last_step) {
    const std::string time =
        m.seconds < 10 ? fmt::format("{:.0f} ms", m.seconds * 1e3) : fmt::format("{:.1f} s", m.seconds);
    const std::string scale = m.loss_scale ? fmt::format(" | scale {}", *m.loss_scale) : "";
    const std::string skipped = !m.skipped              ? ""
                                : m.why_skipped.empty() ? " | skipped"
                                                        : fmt::format(" | skipped: {}", m.why_skipped);
    return fmt::format("step {}/{} | loss {:.4f} | norm {:.3f} | lr {:.2e}{}{} | {} tok/s | {}", m.step, last_step,
                       m.loss, m.grad_norm, m.learning_rate, scale, skipped, with_thousands(m.tokens_per_second), time);
}

JsonLines::JsonLines(std::string path)
    : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (descriptor_ < 0) throw_errno("append to", path_);
}

JsonLines::~JsonLines() { ::close(descriptor_); }

void JsonLines::append_line(std::string line) {
    line += '\n';
    const off_t begin = ::lseek(descriptor_, 0, SEEK_END);
    for (std::string_view left = line; !left.empty();) {
        const ssize_t written = ::write(descriptor_, left.data(), left.size());
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) {
            const int error = errno;
            [[maybe_unused]] const int ignored = ::ftruncate(descriptor_, begin);  // half a line is none
            errno = error;
            throw_errno("append to", path_);
        }
        left.remove_prefix(static_cast<size_t>(written));
    }
}

void JsonLines::sync() const noexcept { [[maybe_unused]] const int ignored = ::fsync(descriptor_); }

void JsonLines::append(const StepMetrics& m) {
    nlohmann::ordered_json line{{"step", m.step},
                                {"loss", m.loss},
                                {"grad_norm", m.grad_norm},
                                {"lr", m.learning_rate},
                                {"tokens", m.tokens},
                                {"seconds", m.seconds},
                                {"tokens_per_second", m.tokens_per_second}};
    if (m.loss_scale) line.update({{"loss_scale", *m.loss_scale}, {"skipped", m.skipped}});
    if (!m.why_skipped.empty()) line.update({{"skipped", true}, {"why", m.why_skipped}});
    if (m.rolled_back_from)
        line.update({{"rolled_back_from", *m.rolled_back_from}, {"why_rolled_back", m.why_rolled_back}});
    append_line(line.dump());
}

void JsonLines::append_validation(int64_t step, double loss) {
    append_line(
        nlohmann::ordered_json{{"step", step}, {"validation_loss", loss}, {"validation_perplexity", std::exp(loss)}}
            .dump());
}

void JsonLines::append_sample(int64_t step, const std::string& prompt, const std::string& text) {
    const auto replace = nlohmann::json::error_handler_t::replace;  // a sampled token may end inside a UTF-8 sequence
    append_line(
        nlohmann::ordered_json{{"step", step}, {"prompt", prompt}, {"text", text}}.dump(-1, ' ', false, replace));
}

}  // namespace ballast::train
