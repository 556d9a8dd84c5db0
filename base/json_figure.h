// Figures in JSON, which has neither NaN nor infinity: those are the strings "NaN", "Infinity" and "-Infinity", as in
// the JSON of protobuf. Python's float() and JavaScript's Number() take them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

namespace ballast {

nlohmann::ordered_json json_figure(double value);
nlohmann::ordered_json json_figures(std::span<const double> values);

/// What json_figure() wrote. Older files hold null in place of a value that is not finite: it reads as NaN.
/// UserError for anything else.
double read_figure(const nlohmann::json& value);
std::vector<double> read_figures(const nlohmann::json& values);

}  // namespace ballast
