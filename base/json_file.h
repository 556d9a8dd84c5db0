// JSON files. Our headers include only json_fwd.hpp: nlohmann's full header costs four seconds per translation unit.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace ballast {

/// `text` as JSON; UserError "<source>: not valid JSON …" with the position otherwise.
nlohmann::json parse_json(std::string_view text, const std::string& source);

/// The file as JSON; UserError when it cannot be read or parsed.
nlohmann::json read_json_file(const std::string& path);

/// Writes `value` with two spaces of indent and a final newline, atomically.
void write_json_file(const std::string& path, const nlohmann::json& value);

/// The same keeping the keys in the order they were inserted, for files people read.
void write_json_file(const std::string& path, const nlohmann::ordered_json& value);

}  // namespace ballast
