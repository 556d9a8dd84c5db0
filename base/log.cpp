#include "base/log.h"

#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

namespace ballast {
namespace {

constexpr const char* kClearLine = "\r\x1b[K";

std::mutex status_mutex;
std::string status_line;  // what the terminal's last line shows

spdlog::logger& logger() {
    static const std::unique_ptr<spdlog::logger> instance = [] {
        auto made =
            std::make_unique<spdlog::logger>("ballast", std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>());
        made->flush_on(spdlog::level::trace);
        return made;
    }();
    return *instance;
}

void write(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
}

void log(spdlog::level::level_enum level, const char* pattern, std::string_view message) {
    const std::lock_guard held(status_mutex);
    if (!status_line.empty()) write(kClearLine);
    logger().set_pattern(pattern);
    logger().log(level, message);
    if (!status_line.empty()) write(status_line);
}

}  // namespace

void log_info(std::string_view message) { log(spdlog::level::info, "[%H:%M:%S] %v", message); }
void log_warning(std::string_view message) { log(spdlog::level::warn, "[%H:%M:%S] %^warning:%$ %v", message); }
void log_error(std::string_view message) { log(spdlog::level::err, "[%H:%M:%S] %^error:%$ %v", message); }

void print_line(std::string_view line) {
    const std::lock_guard held(status_mutex);
    if (!status_line.empty()) write(kClearLine);
    std::fwrite(line.data(), 1, line.size(), stdout);
    std::fputc('\n', stdout);
    std::fflush(stdout);
    if (!status_line.empty()) write(status_line);
}

void show_status_line(std::string_view line) {
    const std::lock_guard held(status_mutex);
    status_line = line;
    write(std::string(kClearLine) + status_line);
}

void leave_status_line() {
    const std::lock_guard held(status_mutex);
    if (!status_line.empty()) write("\n");
    status_line.clear();
}

}  // namespace ballast
