#include "data/pre_tokenizer.h"

#include <array>

#include "data/unicode.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

constexpr std::array<CharacterClass, 128> ascii_classes() {
    std::array<CharacterClass, 128> classes{};
    for (char c : {' ', '\t', '\n', '\v', '\f', '\r'}) classes[static_cast<size_t>(c)] = CharacterClass::space;
    for (size_t c = '0'; c <= '9'; ++c) classes[c] = CharacterClass::number;
    for (size_t c = 'a'; c <= 'z'; ++c) classes[c] = classes[c - 'a' + 'A'] = CharacterClass::letter;
    return classes;
}
constexpr auto kAsciiClasses = ascii_classes();

struct ClassedCharacter {
    CharacterClass kind;
    uint32_t length;
};

ClassedCharacter classify(std::string_view text, size_t at) {
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte < 0x80) return {kAsciiClasses[byte], 1};
    const DecodedCharacter c = decode_valid_utf8(text.data() + at);
    return {character_class(c.code_point), c.length};
}

size_t run_end(std::string_view text, size_t at, CharacterClass kind) {
    while (at < text.size()) {
        const ClassedCharacter c = classify(text, at);
        if (c.kind != kind) break;
        at += c.length;
    }
    return at;
}

/// 's|'t|'re|'ve|'m|'ll|'d at an apostrophe: bytes matched, or 0.
size_t contraction_length(std::string_view text, size_t at) {
    const auto follows = [&](size_t i) { return at + i < text.size() ? text[at + i] : '\0'; };
    switch (follows(1)) {
        case 's':
        case 't':
        case 'm':
        case 'd': return 2;
        case 'r':
        case 'v': return follows(2) == 'e' ? 3 : 0;
        case 'l': return follows(2) == 'l' ? 3 : 0;
        default: return 0;
    }
}

/// \s+(?!\S)|\s+ : a run of spaces leaves its last one to the word that follows, unless it is all there is.
size_t space_run_end(std::string_view text, size_t at) {
    size_t last = at, end = at;
    while (end < text.size()) {
        const ClassedCharacter c = classify(text, end);
        if (c.kind != CharacterClass::space) return last == at ? end : last;
        last = end;
        end += c.length;
    }
    return end;
}

}  // namespace

size_t next_word_end(std::string_view text, size_t at) {
    if (text[at] == '\'') {
        if (const size_t length = contraction_length(text, at)) return at + length;
    }
    const size_t body = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
    const ClassedCharacter c = classify(text, body);
    if (c.kind == CharacterClass::space) return space_run_end(text, at);
    return run_end(text, body + c.length, c.kind);
}

bool is_word_cut(std::string_view text, size_t at) {
    const auto after = static_cast<uint8_t>(text[at]);
    if (after >= 0x80 || kAsciiClasses[after] != CharacterClass::space) return false;
    size_t begin = at - 1;
    while (begin > 0 && at - begin < 4 && is_utf8_continuation(text[begin])) --begin;
    const DecodedCharacter before = decode_utf8(text, begin);
    return before.valid && begin + before.length == at && character_class(before.code_point) != CharacterClass::space &&
           !is_nfc_active(before.code_point);
}

size_t last_word_cut(std::string_view text) {
    for (size_t at = text.size(); at-- > 1;)
        if (is_word_cut(text, at)) return at;
    return 0;
}

}  // namespace ballast::data
