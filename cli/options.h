// Options that several sub-commands share.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "data/utf8.h"

namespace ballast {

inline void add_threads_option(CLI::App& command, int& threads) {
    command.add_option("--threads", threads, "Threads; 0 takes every core")
        ->check(CLI::Range(0, 4096))
        ->capture_default_str();
}

inline void add_invalid_utf8_option(CLI::App& command, data::InvalidUtf8& policy) {
    static const std::map<std::string, data::InvalidUtf8> kPolicies = {{"error", data::InvalidUtf8::error},
                                                                       {"replace", data::InvalidUtf8::replace}};
    command.add_option("--invalid-utf8", policy, "Bytes that are no UTF-8: error, or replace by U+FFFD")
        ->transform(CLI::CheckedTransformer(kPolicies))
        ->default_str("error");
}

}  // namespace ballast
