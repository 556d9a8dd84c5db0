// Text spellings of arbitrary bytes in vocabularies: GPT-2's, with one printable character per byte, and
// SentencePiece's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ballast::data {

/// The character for `byte`: the byte itself for printable Latin-1, else the next unused character from U+0100 on (so '
/// ' is U+0120).
char32_t byte_level_character(uint8_t byte);

/// The characters for `bytes`, in UTF-8: " the" becomes "Ġthe".
std::string to_byte_level(std::string_view bytes);

/// The bytes for `spelling`, valid UTF-8; empty when a character is outside the alphabet.
std::optional<std::string> from_byte_level(std::string_view spelling);

/// SentencePiece's spelling of one byte: "<0x0A>".
std::string byte_token(uint8_t byte);

/// The byte whose token is `spelling`, or empty.
std::optional<uint8_t> byte_of_token(std::string_view spelling);

}  // namespace ballast::data
