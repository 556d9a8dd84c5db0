// "Did you mean …?"
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace ballast {

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal string alignment).
size_t edit_distance(std::string_view a, std::string_view b);

/// "; did you mean <the nearest candidate>?", or empty when no candidate is close enough to be a typing error.
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace ballast
