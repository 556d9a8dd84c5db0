// Cuts UTF-8 text between characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ballast {

/// True when `byte` continues a character. Every other byte starts a character.
constexpr bool is_utf8_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

size_t count_characters(std::string_view text);

/// The first or last `count` characters of `text`; the whole text when it is shorter.
std::string_view first_characters(std::string_view text, size_t count);
std::string_view last_characters(std::string_view text, size_t count);

/// The characters that lie completely within the first `bytes` bytes.
std::string_view first_bytes(std::string_view text, size_t bytes);

}  // namespace ballast
