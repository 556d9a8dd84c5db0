// Configurations as text: TOML in and out, the table printed at start, the help. A configuration is any struct with
// `void visit(FieldVisitor&)` (base/config_visitor.h).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/config_visitor.h"

namespace ballast {

using VisitFields = std::function<void(FieldVisitor&)>;

/// A field's value from elsewhere than the configuration's own file.
struct ConfigOverride {
    std::string text;   // "section.key=value": the value as in TOML, or a bare word
    std::string place;  // where it was written, for messages: "--set …" or "sweep.toml:7"

    std::string key() const { return text.substr(0, text.find('=')); }
};

/// What --set was given.
std::vector<ConfigOverride> parse_overrides(std::span<const std::string> settings);

namespace config_detail {
void load_file(const VisitFields& visit, const std::string& path, std::span<const ConfigOverride> overrides);
void load_text(const VisitFields& visit, std::string_view text, const std::string& source);
std::string toml_text(const VisitFields& visit);
std::string table_text(const VisitFields& visit, const VisitFields& defaults);
std::string help_text(const VisitFields& visit);

template <class Config>
VisitFields fields_of(Config& config) {
    return [&config](FieldVisitor& v) { config.visit(v); };
}
}  // namespace config_detail

/// Sets the fields named in the file; the others keep their values. `extends = "other.toml"` at the top (relative to
/// the file) is loaded first, and so on up the chain. Then come the overrides. With an empty `path` there are only
/// overrides. An unknown key, a value of the wrong type or out of bounds, a circle of files: UserError naming file,
/// line, key and what would be right.
template <class Config>
void load_toml(Config& config, const std::string& path, std::span<const ConfigOverride> overrides) {
    config_detail::load_file(config_detail::fields_of(config), path, overrides);
}

/// The same with overrides as --set takes them.
template <class Config>
void load_toml(Config& config, const std::string& path, std::span<const std::string> settings = {}) {
    load_toml(config, path, std::span<const ConfigOverride>(parse_overrides(settings)));
}

/// The same from memory, without `extends`; `source` stands for the file in messages.
template <class Config>
void load_toml_text(Config& config, std::string_view text, const std::string& source) {
    config_detail::load_text(config_detail::fields_of(config), text, source);
}

/// Every field with its value. Loading it gives an equal configuration.
template <class Config>
std::string to_toml(Config config) {
    return config_detail::toml_text(config_detail::fields_of(config));
}

/// One line a field, "section.key  value"; what differs from a default-constructed Config is marked with its default.
template <class Config>
std::string to_table(Config config) {
    Config defaults;
    return config_detail::table_text(config_detail::fields_of(config), config_detail::fields_of(defaults));
}

/// Every field with its value (the default, for a fresh Config), bounds or choices, and help.
template <class Config>
std::string to_help(Config config) {
    return config_detail::help_text(config_detail::fields_of(config));
}

}  // namespace ballast
