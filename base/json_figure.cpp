#include "base/json_figure.h"

#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace ballast {
namespace {

constexpr const char *kNaN = "NaN", *kInfinity = "Infinity", *kMinusInfinity = "-Infinity";

}  // namespace

nlohmann::ordered_json json_figure(double value) {
    if (std::isfinite(value)) return value;
    return std::isnan(value) ? kNaN : value > 0 ? kInfinity : kMinusInfinity;
}

nlohmann::ordered_json json_figures(std::span<const double> values) {
    auto out = nlohmann::ordered_json::array();
    for (const double value : values) out.push_back(json_figure(value));
    return out;
}

double read_figure(const nlohmann::json& value) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    if (value.is_number()) return value.get<double>();
    if (value.is_null() || value == kNaN) return std::numeric_limits<double>::quiet_NaN();
    if (value == kInfinity) return kInf;
    if (value == kMinusInfinity) return -kInf;
    throw UserError(fmt::format("a {} where a number should be", value.type_name()));
}

std::vector<double> read_figures(const nlohmann::json& values) {
    if (!values.is_array()) throw UserError(fmt::format("a {} where a list should be", values.type_name()));
    std::vector<double> out;
    for (const auto& value : values) out.push_back(read_figure(value));
    return out;
}

}  // namespace ballast
