#include "base/toml_text.h"

#include <fmt/format.h>

#include <sstream>

#include "base/error.h"

namespace ballast {

toml::table parse_toml(std::string_view text, const std::string& source) {
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
