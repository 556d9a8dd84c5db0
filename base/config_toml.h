// Configurations as text: reading and writing TOML, the table printed at start, and the help. A configuration is any
// struct with `void visit(FieldVisitor&)` (base/config_visitor.h).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/config_visitor.h"

namespace ballast {

using VisitFields = std::function<void(FieldVisitor&)>;

/// A value for one field that does not come from the configuration's own file.
struct ConfigOverride {
    std::string text;   // "section.key=value": the value as in TOML, or a bare word
    std::string place;  // where it was written, for messages: "--set …" or "sweep.toml:7"

    std::string key() const { return text.substr(0, text.find('=')); }
};

/// The values given by --set.
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

/// Sets the fields that the file names; the other fields keep their values. A line `extends = "other.toml"` at the top
/// (relative to the file) loads that file first, and so on up the chain. The overrides come last. With an empty `path`
/// only the overrides apply. UserError for an unknown key, a value of the wrong type or out of bounds, or a cycle of
/// files; it names the file, the line, the key and the allowed values.
template <class Config>
void load_toml(Config& config, const std::string& path, std::span<const ConfigOverride> overrides) {
    config_detail::load_file(config_detail::fields_of(config), path, overrides);
}

/// The same with overrides in the form that --set takes.
template <class Config>
void load_toml(Config& config, const std::string& path, std::span<const std::string> settings = {}) {
    load_toml(config, path, std::span<const ConfigOverride>(parse_overrides(settings)));
}

/// The same from text in memory, without `extends`; messages name `source` as the file.
template <class Config>
void load_toml_text(Config& config, std::string_view text, const std::string& source) {
    config_detail::load_text(config_detail::fields_of(config), text, source);
}

/// Every field with its value. Loading it gives an equal configuration.
template <class Config>
std::string to_toml(Config config) {
    return config_detail::toml_text(config_detail::fields_of(config));
}

/// A line in which two configurations differ, as in "[train]", "seed = 1", "seed = 2".
struct ConfigDifference {
    std::string section, left, right;
};
/// The lines in which two texts of to_toml() for one type differ.
std::vector<ConfigDifference> differing_lines(const std::string& left, const std::string& right);

/// One line per field, "section.key  value". A value that differs from that of a default-constructed Config is marked
/// and followed by the default.
template <class Config>
std::string to_table(Config config) {
    Config defaults;
    return config_detail::table_text(config_detail::fields_of(config), config_detail::fields_of(defaults));
}

/// Every field with its value (for a fresh Config: the default), its bounds or choices, and its help text.
template <class Config>
std::string to_help(Config config) {
    return config_detail::help_text(config_detail::fields_of(config));
}

}  // namespace ballast
