// Splits text into the words that byte-pair encoding works on.
#pragma once

#include <cstddef>
#include <string_view>

namespace ballast::data {

/// The end of the word that starts at `text[at]`, at < text.size(), under the pattern of GPT-2 and GPT-NeoX:
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// `text` is valid UTF-8. The words partition the text, and a word does not depend on the text before it.
size_t next_word_end(std::string_view text, size_t at);

/// True when `text`, valid UTF-8 or not, may be cut at byte `at` (0 < at < text.size()): normalising and splitting the
/// two parts then gives the words of the whole, whatever text follows. The condition is ASCII white space after the
/// cut, and before it a character that is not white space and that NFC does not change.
bool is_word_cut(std::string_view text, size_t at);

/// The last such place; 0 when there is none.
size_t last_word_cut(std::string_view text);

}  // namespace ballast::data
