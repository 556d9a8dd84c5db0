#include "data/utf8.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"

namespace ballast::data {
namespace {

/// Well-formed sequences by first byte (Unicode 15, table 3-7): length, and the range of the second byte.
struct LeadByte {
    uint32_t length;  // 0: no character starts with this byte
    uint8_t second_min, second_max;
};

constexpr LeadByte lead_byte(uint8_t b) {
    if (b < 0x80) return {1, 0, 0};
    if (b < 0xC2) return {0, 0, 0};
    if (b < 0xE0) return {2, 0x80, 0xBF};
    if (b == 0xE0) return {3, 0xA0, 0xBF};
    if (b == 0xED) return {3, 0x80, 0x9F};
    if (b < 0xF0) return {3, 0x80, 0xBF};
    if (b == 0xF0) return {4, 0x90, 0xBF};
    if (b < 0xF4) return {4, 0x80, 0xBF};
    if (b == 0xF4) return {4, 0x80, 0x8F};
    return {0, 0, 0};
}

size_t skip_ascii(std::string_view text, size_t at) {
    for (; at + 8 <= text.size(); at += 8) {
        uint64_t word;
        std::memcpy(&word, text.data() + at, 8);
        if (word & 0x8080808080808080ull) break;
    }
    while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80) ++at;
    return at;
}

}  // namespace

DecodedCharacter decode_utf8(std::string_view text, size_t at) {
    const auto first = static_cast<uint8_t>(text[at]);
    const LeadByte lead = lead_byte(first);
    if (lead.length == 1) return {first, 1, true};
    if (lead.length == 0) return {kReplacementCharacter, 1, false};
    char32_t code_point = first & (0x7Fu >> lead.length);
    for (uint32_t i = 1; i < lead.length; ++i) {
        const uint8_t low = i == 1 ? lead.second_min : 0x80, high = i == 1 ? lead.second_max : 0xBF;
        const auto byte = static_cast<uint8_t>(at + i < text.size() ? text[at + i] : 0);
        if (byte < low || byte > high) return {kReplacementCharacter, i, false};
        code_point = code_point << 6 | (byte & 0x3Fu);
    }
    return {code_point, lead.length, true};
}

size_t valid_utf8_prefix(std::string_view text) {
    for (size_t at = skip_ascii(text, 0); at < text.size(); at = skip_ascii(text, at)) {
        const DecodedCharacter c = decode_utf8(text, at);
        if (!c.valid) return at;
        at += c.length;
    }
    return text.size();
}

std::string take_whole_characters(std::string& bytes) {
    std::string text;
    size_t at = 0;
    while (at < bytes.size()) {
        const DecodedCharacter c = decode_utf8(bytes, at);
        const bool beginning = !c.valid && at + c.length == bytes.size() &&
                               lead_byte(static_cast<uint8_t>(bytes[at])).length > c.length;
        if (beginning) break;
        append_utf8(text, c.code_point);
        at += c.length;
    }
    bytes.erase(0, at);
    return text;
}

void append_utf8(std::string& out, char32_t c) {
    const auto push = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (c < 0x80) {
        push(c);
    } else if (c < 0x800) {
        push(0xC0 | c >> 6);
        push(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        push(0xE0 | c >> 12);
        push(0x80 | (c >> 6 & 0x3F));
        push(0x80 | (c & 0x3F));
    } else {
        push(0xF0 | c >> 18);
        push(0x80 | (c >> 12 & 0x3F));
        push(0x80 | (c >> 6 & 0x3F));
        push(0x80 | (c & 0x3F));
    }
}

std::string_view checked_utf8(std::string_view text, InvalidUtf8 policy, std::string& storage, int64_t first_offset) {
    size_t valid = valid_utf8_prefix(text);
    if (valid == text.size()) return text;
    if (policy == InvalidUtf8::error) {
        throw UserError(fmt::format("invalid UTF-8 at byte {} (0x{:02x}); mend the text or pass --invalid-utf8 replace",
                                    first_offset + static_cast<int64_t>(valid), static_cast<uint8_t>(text[valid])));
    }
    storage.clear();
    while (!text.empty()) {
        storage.append(text.substr(0, valid));
        text.remove_prefix(valid);
        if (text.empty()) break;
        append_utf8(storage, kReplacementCharacter);
        text.remove_prefix(decode_utf8(text, 0).length);
        valid = valid_utf8_prefix(text);
    }
    return storage;
}

}  // namespace ballast::data
