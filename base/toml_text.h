// toml++ behind a few functions, for the files that read TOML themselves. Its header costs seconds per translation
// unit.
#pragma once

#include <string>
#include <string_view>

#include <toml++/toml.h>

namespace ballast {

/// `text` as TOML; UserError "<source>:<line>: not valid TOML: …" otherwise.
toml::table parse_toml(std::string_view text, const std::string& source);

/// A value in TOML syntax: "a", 1, 0.004, [1, 2].
std::string toml_text(const toml::node& node);

/// "<source>:<line>" of a node.
std::string place_of(const toml::node& node, const std::string& source);

}  // namespace ballast
