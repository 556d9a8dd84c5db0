#include "base/toml_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <sstream>

#include "base/error.h"

namespace ballast {
namespace {

/// Each full stop of a dotted key is a table in a table. toml++ limits the depth of brackets but not of these, and
/// recurses to destroy them.
bool may_be_endless(std::string_view text) {
    constexpr int64_t kMostStops = 5000;
    return std::count(text.begin(), text.end(), '.') > kMostStops;
}

}  // namespace

toml::table parse_toml(std::string_view text, const std::string& source) {
    if (may_be_endless(text))
        throw UserError(fmt::format("{}: more than 5000 full stops; is this the configuration you meant?", source));
    try {
        return toml::parse(text, source);
    } catch (const toml::parse_error& error) {
        throw UserError(
            fmt::format("{}:{}: not valid TOML: {}", source, error.source().begin.line, error.description()));
    }
}

std::string toml_text(const toml::node& node) {
    if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
    std::ostringstream out;
    node.visit([&](const auto& value) { out << value; });
    return out.str();
}

std::string place_of(const toml::node& node, const std::string& source) {
    return fmt::format("{}:{}", source, node.source().begin.line);
}

}  // namespace ballast
