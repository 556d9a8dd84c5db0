// The Unicode data of the tokenizer: classes of code points, and normalisation form C.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ballast::data {

enum class CharacterClass : uint8_t { other, letter, number, space };

/// \p{L}, \p{N}, \s or none of them, exactly as in the `tokenizers` package (scripts/generate_unicode_tables.py).
CharacterClass character_class(char32_t code_point);

/// False guarantees that NFC neither changes nor moves `code_point`, nor joins it to the character before it. So text
/// may be cut before it and the parts normalised separately.
bool is_nfc_active(char32_t code_point);

/// Normalisation form C of valid UTF-8, with the Unicode version of the `tokenizers` package (code points assigned
/// later are left as they are). Returns `text` itself when that is normal already, else `storage`.
std::string_view normalize_nfc(std::string_view text, std::string& storage);

}  // namespace ballast::data
