// Guards what nlohmann's JSON does by recursion.
#pragma once

#include <string_view>

namespace ballast {

/// True when arrays and objects are nested so deeply that copying or writing the value, which recurses, could exhaust the
/// stack. (Parsing does not recurse.)
bool is_deep_json(std::string_view text);

}  // namespace ballast
