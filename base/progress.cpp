#include "base/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "base/log.h"
#include "base/utf8_cut.h"

namespace ballast {
namespace {

constexpr double kSmoothingSeconds = 15;
constexpr std::chrono::milliseconds kRedraw{100};  // on a terminal
constexpr std::chrono::seconds kPlainLine{10};     // in a log file
constexpr int kFewestColumns = 40;
constexpr int kBarColumns = 24;

int terminal_columns() {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
    return std::max<int>(size.ws_col - 1, kFewestColumns);  // a full last column would wrap
}

std::string bar(double fraction) {
    static constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int eighths = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * kBarColumns * 8);
    std::string text;
    for (int i = 0; i < eighths / 8; ++i) text += "█";
    text += kEighths[eighths % 8];
    const int used = eighths / 8 + (eighths % 8 != 0 ? 1 : 0);
    return "│" + text + std::string(static_cast<size_t>(kBarColumns - used), ' ') + "│";
}

std::string rate_text(const ProgressState& state) {
    if (!(state.per_second > 0)) return "";
    if (state.per_second < 1) {
        const std::string_view one(state.unit.data(), state.unit.size() - (state.unit.ends_with('s') ? 1 : 0));
        return fmt::format("  {:.1f} s/{}", 1 / state.per_second, one);
    }
    return fmt::format("  {} {}/s", format_count(state.per_second), state.unit);
}

std::string time_text(const ProgressState& state) {
    if (state.finished) return fmt::format("  in {}", format_duration(state.elapsed));
    if (state.total <= 0 || !(state.per_second > 0)) return "";
    const auto left = static_cast<double>(std::max<int64_t>(state.total - state.done, 0));
    return fmt::format("  {} left", format_duration(left / state.per_second));
}

}  // namespace

void RateEstimate::update(double seconds, int64_t done) {
    const double step = seconds - last_seconds_;
    const double keep = std::exp(-step / kSmoothingSeconds);
    units_ = units_ * keep + static_cast<double>(done - last_done_);
    weight_ = weight_ * keep + step;
    last_seconds_ = seconds;
    last_done_ = done;
}

std::string format_duration(double seconds) {
    constexpr double kLongest = 1000.0 * 24 * 3600;
    if (!(seconds < kLongest)) return "a very long time";
    const auto s = static_cast<int64_t>(std::llround(std::max(seconds, 0.0)));
    if (s < 60) return fmt::format("{}s", s);
    if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
    if (s < 24 * 3600) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
    return fmt::format("{}d{:02}h", s / (24 * 3600), s / 3600 % 24);
}

std::string format_count(double count) {
    if (count < 100 && count != std::floor(count)) return fmt::format("{:.1f}", count);
    static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T"};
    size_t prefix = 0;
    while (count >= 999.5 && prefix + 1 < std::size(kPrefixes)) {
        count /= 1000;
        ++prefix;
    }
    if (prefix == 0 || count >= 99.95) return fmt::format("{:.0f}{}", count, kPrefixes[prefix]);
    return fmt::format("{:.1f}{}", count, kPrefixes[prefix]);
}

std::string format_progress(const ProgressState& state, int width) {
    std::string line = state.label;
    const double fraction = state.total > 0 ? static_cast<double>(state.done) / static_cast<double>(state.total) : 0;
    if (state.total > 0) line += fmt::format(" {:3.0f}%", std::floor(100 * fraction));  // 100% means all of it
    if (state.total > 0 && width > 0) line += " " + bar(fraction);
    line += " " + format_count(static_cast<double>(state.done));
    if (state.total > 0) line += "/" + format_count(static_cast<double>(state.total));
    line += " " + state.unit + rate_text(state) + time_text(state);
    if (!state.suffix.empty()) line += "  " + state.suffix;
    return width > 0 ? std::string(first_characters(line, static_cast<size_t>(width))) : line;
}

Progress::Progress(std::string label, int64_t total, std::string unit, int64_t done)
    : rate_(done), last_drawn_(start_), terminal_(::isatty(STDERR_FILENO) != 0) {
    state_.label = std::move(label);
    state_.unit = std::move(unit);
    state_.total = total;
    state_.done = done;
    if (terminal_) last_drawn_ -= kRedraw;  // the first update shows at once
}

Progress::~Progress() {
    // Left without finish(), by an exception for one: what is on the screen stays there.
    if (terminal_ && !state_.finished) leave_status_line();
}

void Progress::update(int64_t done) {
    state_.done = done;
    const auto now = Clock::now();
    if (now - last_drawn_ < (terminal_ ? Clock::duration(kRedraw) : Clock::duration(kPlainLine))) return;
    last_drawn_ = now;
    state_.elapsed = std::chrono::duration<double>(now - start_).count();
    rate_.update(state_.elapsed, done);
    state_.per_second = rate_.per_second();
    draw();
}

void Progress::finish() {
    if (state_.finished) return;
    state_.finished = true;
    state_.elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
    rate_.update(state_.elapsed, state_.done);
    state_.per_second = rate_.per_second();
    draw();
    if (terminal_) leave_status_line();
}

void Progress::draw() {
    if (terminal_) {
        show_status_line(format_progress(state_, terminal_columns()));
    } else {
        std::fputs((format_progress(state_, 0) + "\n").c_str(), stderr);
    }
}

}  // namespace ballast
