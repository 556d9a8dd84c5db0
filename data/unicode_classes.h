// Character classes of the tokenizer steps other than GPT-2's pattern, each in the Unicode version that the
// `tokenizers` package uses for it (scripts/generate_unicode_classes.py).
#pragma once

#include <span>
#include <string>

namespace ballast::data {

struct CodePointRange {
    char32_t first, last;  ///< inclusive
};

bool is_punctuation(char32_t c);  ///< the steps Punctuation and BertPreTokenizer
bool is_numeric(char32_t c);      ///< the step Digits
bool is_white_space(char32_t c);  ///< White_Space; equal to \s
bool is_word(char32_t c);         ///< \w, which single_word tokens do not touch

/// The treatment of one character by BertNormalizer.
bool is_bert_removed(char32_t c);   ///< clean_text removes it
bool is_bert_space(char32_t c);     ///< clean_text replaces it by a space
bool is_bert_spaced(char32_t c);    ///< handle_chinese_chars puts spaces around it
bool is_bert_stripped(char32_t c);  ///< strip_accents removes it after decomposition

/// Appends the lower case of `c`, without regard to its neighbours.
void append_lowercase(std::string& out, char32_t c);

/// Appends `c` after strip_accents: its canonical decomposition without marks. (A handful of scripts have marks that
/// stay. They keep the order of the text, where the package would sort them.)
void append_without_accents(std::string& out, char32_t c);

/// The ranges of \p{L}, \p{N} and \s, for regular expressions.
std::span<const CodePointRange> letter_ranges();
std::span<const CodePointRange> number_ranges();
std::span<const CodePointRange> space_ranges();

}  // namespace ballast::data
