// UTF-8: decoding, validation, repair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8_cut.h"

namespace ballast::data {

/// What to do with invalid UTF-8.
enum class InvalidUtf8 : uint8_t {
    error,    ///< UserError that names the byte offset
    replace,  ///< U+FFFD for each maximal subpart (Unicode 15, section 3.9), as Python's errors="replace" does
};

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct DecodedCharacter {
    char32_t code_point = 0;
    uint32_t length = 0;  ///< bytes; of an ill-formed sequence, the length of its maximal subpart (at least 1)
    bool valid = false;
};

/// Decodes the character that starts at `text[at]`, at < text.size(). Overlong forms, surrogates and values above
/// U+10FFFF are ill-formed.
DecodedCharacter decode_utf8(std::string_view text, size_t at);

/// The same for text known to be valid: no checks.
inline DecodedCharacter decode_valid_utf8(const char* at) {
    const auto byte = [at](int i) { return static_cast<char32_t>(static_cast<uint8_t>(at[i])); };
    const char32_t first = byte(0);
    if (first < 0x80) return {first, 1, true};
    if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2, true};
    if (first < 0xF0) return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3, true};
    return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4, true};
}

/// False for bytes that never occur in UTF-8: 0xC0, 0xC1 and 0xF5 and above.
constexpr bool occurs_in_utf8(uint8_t byte) { return byte != 0xC0 && byte != 0xC1 && byte < 0xF5; }

/// The number of bytes at the front of `text` that are valid UTF-8; text.size() when all are.
size_t valid_utf8_prefix(std::string_view text);

/// Removes from the front of `bytes` all complete text and returns it, with U+FFFD for each maximal invalid subpart.
/// Leaves bytes that may be the beginning of a character (at most 3).
std::string take_whole_characters(std::string& bytes);

void append_utf8(std::string& out, char32_t code_point);

/// Applies `policy` to `text`: returns `text` itself when it is valid, else the repaired copy, kept in `storage`.
/// UserError("invalid UTF-8 at byte N …") under InvalidUtf8::error; N counts from `first_offset`.
std::string_view checked_utf8(std::string_view text, InvalidUtf8 policy, std::string& storage,
                              int64_t first_offset = 0);

}  // namespace ballast::data
