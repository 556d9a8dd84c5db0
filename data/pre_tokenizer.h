// Cutting text into the words that byte-pair encoding works on.
#pragma once

#include <cstddef>
#include <string_view>

namespace ballast::data {

/// The end of the word that starts at `text[at]`, at < text.size(), under the pattern of GPT-2 and GPT-NeoX:
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// `text` is valid UTF-8. The words partition the text, and a word depends on nothing before its first byte.
size_t next_word_end(std::string_view text, size_t at);

/// Whether a word always ends between `before` and `after`, whatever surrounds the two characters: `before` is no
/// space and `after` is one. Text cut there yields the same words in two parts as in one.
bool is_word_boundary(char32_t before, char32_t after);

}  // namespace ballast::data
