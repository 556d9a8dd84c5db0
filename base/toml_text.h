// toml++ behind two functions. Its header costs seconds a translation unit: for the few files that read TOML
// themselves.
#pragma once

#include <string>
#include <string_view>

#include <toml++/toml.h>

namespace ballast {

/// `text` as TOML; UserError "<source>:<line>: not valid TOML: …" otherwise.
toml::table parse_toml(std::string_view text, const std::string& source);

/// A value as TOML writes it: "a", 1, 0.004, [1, 2].
std::string toml_text(const toml::node& node);

/// "<source>:<line>" of a node.
std::string place_of(const toml::node& node, const std::string& source);

}  // namespace ballast
