// Numbers in JSON. JSON has neither NaN nor infinity, so these are the strings "NaN", "Infinity" and "-Infinity", as in
// protobuf's JSON. Python's float() and JavaScript's Number() accept them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

namespace ballast {

nlohmann::ordered_json json_figure(double value);
nlohmann::ordered_json json_figures(std::span<const double> values);

/// Reads a number that json_figure() wrote. Older files have null in place of a value that is not finite; null reads as
/// NaN. UserError for anything else.
double read_figure(const nlohmann::json& value);
std::vector<double> read_figures(const nlohmann::json& values);

}  // namespace ballast
