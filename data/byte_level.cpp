#include "data/byte_level.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "data/utf8.h"

namespace ballast::data {
namespace {

constexpr bool is_printable_latin1(char32_t c) { return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c != 0xAD); }

constexpr std::array<char32_t, 256> byte_characters() {
    std::array<char32_t, 256> characters{};
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) characters[byte] = is_printable_latin1(byte) ? byte : next++;
    return characters;
}
constexpr auto kByteCharacters = byte_characters();
constexpr char32_t kAlphabetEnd = 0x144;  // one past the last character in use

constexpr std::array<int16_t, kAlphabetEnd> character_bytes() {
    std::array<int16_t, kAlphabetEnd> bytes{};
    for (auto& byte : bytes) byte = -1;
    for (int byte = 0; byte < 256; ++byte)
        bytes[kByteCharacters[static_cast<size_t>(byte)]] = static_cast<int16_t>(byte);
    return bytes;
}
constexpr auto kCharacterBytes = character_bytes();

}  // namespace

char32_t byte_level_character(uint8_t byte) { return kByteCharacters[byte]; }

std::string to_byte_level(std::string_view bytes) {
    std::string spelling;
    for (char byte : bytes) append_utf8(spelling, kByteCharacters[static_cast<uint8_t>(byte)]);
    return spelling;
}

std::optional<std::string> from_byte_level(std::string_view spelling) {
    std::string bytes;
    for (size_t at = 0; at < spelling.size();) {
        const DecodedCharacter c = decode_valid_utf8(spelling.data() + at);
        if (c.code_point >= kAlphabetEnd || kCharacterBytes[c.code_point] < 0) return std::nullopt;
        bytes.push_back(static_cast<char>(kCharacterBytes[c.code_point]));
        at += c.length;
    }
    return bytes;
}

std::string byte_token(uint8_t byte) { return fmt::format("<0x{:02X}>", byte); }

std::optional<uint8_t> byte_of_token(std::string_view spelling) {
    if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling[5] != '>') return std::nullopt;
    uint8_t byte = 0;
    const auto [stop, error] = std::from_chars(spelling.data() + 3, spelling.data() + 5, byte, 16);
    if (error != std::errc{} || stop != spelling.data() + 5) return std::nullopt;
    return byte;
}

}  // namespace ballast::data
