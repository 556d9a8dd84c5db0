// Spellings of arbitrary bytes as text, for vocabularies: GPT-2's, a printable character a byte, and SentencePiece's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ballast::data {

/// The character that stands for `byte`: itself for printable Latin-1, else the next unused one from U+0100 on (so
/// ' ' is U+0120).
char32_t byte_level_character(uint8_t byte);

/// `bytes`, each as its character, in UTF-8: " the" becomes "Ġthe".
std::string to_byte_level(std::string_view bytes);

/// The bytes that valid UTF-8 `spelling` stands for; nothing when a character is outside the alphabet.
std::optional<std::string> from_byte_level(std::string_view spelling);

/// SentencePiece's spelling of one byte: "<0x0A>".
std::string byte_token(uint8_t byte);

/// The byte that `spelling` is the token of, or nothing.
std::optional<uint8_t> byte_of_token(std::string_view spelling);

}  // namespace ballast::data
