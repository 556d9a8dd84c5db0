// Options that several sub-commands share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "data/utf8.h"

namespace ballast {

inline void add_threads_option(CLI::App& command, int& threads) {
    command.add_option("--threads", threads, "Threads; 0 takes every core")
        ->check(CLI::Range(0, 4096))
        ->capture_default_str();
}

inline void add_invalid_utf8_option(CLI::App& command, data::InvalidUtf8& policy) {
    const auto set = [&policy](const std::string& name) {
        policy = name == "replace" ? data::InvalidUtf8::replace : data::InvalidUtf8::error;
    };
    command
        .add_option_function<std::string>("--invalid-utf8", set, "Bytes that are no UTF-8: error, or replace by U+FFFD")
        ->check(CLI::IsMember({"error", "replace"}))
        ->default_str("error");
}

}  // namespace ballast
