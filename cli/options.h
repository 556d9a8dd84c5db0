// Options that several sub-commands share.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "cli/command.h"
#include "data/corpus.h"

namespace ballast {

inline void add_threads_option(Command command, int& threads) {
    command.add_option("--threads", threads, "Threads; 0 takes every core").in_range(0, 4096).capture_default_str();
}

/// Files of text, and what those are whose names do not say.
inline void add_input_options(Command command, std::vector<std::string>& inputs, data::TextFormat& format) {
    const auto& names = data::kTextFormatNames;
    command
        .add_option("input", inputs, ".txt, .jsonl, .jsonl.zst files, folders of them, a pipe, or - (standard input)")
        .required();
    const auto set = [&format, &names](const std::string& name) {
        format = static_cast<data::TextFormat>(std::find(names.begin(), names.end(), name) - names.begin());
    };
    command.add_option_function("--format", set, "What inputs are whose names do not say, such as -")
        .one_of(std::vector<std::string>(names.begin() + 1, names.end()));
}

inline void add_missing_text_option(Command command, data::MissingText& policy) {
    const auto set = [&policy](const std::string& name) {
        policy = name == "skip" ? data::MissingText::skip : data::MissingText::error;
    };
    command
        .add_option_function("--missing-text", set,
                             "JSON lines without text, or with null for it: error, or skip and count them")
        .one_of({"error", "skip"})
        .default_str("error");
}

inline void add_invalid_utf8_option(Command command, data::InvalidUtf8& policy) {
    const auto set = [&policy](const std::string& name) {
        policy = name == "replace" ? data::InvalidUtf8::replace : data::InvalidUtf8::error;
    };
    command.add_option_function("--invalid-utf8", set, "Bytes that are no UTF-8: error, or replace by U+FFFD")
        .one_of({"error", "replace"})
        .default_str("error");
}

}  // namespace ballast
