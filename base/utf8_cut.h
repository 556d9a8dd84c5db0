// UTF-8 text cut between characters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ballast {

/// Whether `byte` continues a character; a boundary between characters lies before every other byte.
constexpr bool is_utf8_continuation(char byte) { return (static_cast<uint8_t>(byte) & 0xC0) == 0x80; }

size_t count_characters(std::string_view text);

/// The first or last `count` characters of `text`; all of it when it has no more.
std::string_view first_characters(std::string_view text, size_t count);
std::string_view last_characters(std::string_view text, size_t count);

/// The characters that lie wholly within the first `bytes` bytes.
std::string_view first_bytes(std::string_view text, size_t bytes);

}  // namespace ballast
