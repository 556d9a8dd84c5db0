#include <random>

#include "base/error.h"
#include "data/pre_tokenizer.h"
#include "data/unicode.h"
#include "data/utf8.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"

namespace ballast::data {
namespace {

std::string utf8(std::u32string_view text) {
    std::string out;
    for (char32_t c : text) append_utf8(out, c);
    return out;
}

std::string repaired(std::string_view text) {
    std::string storage;
    return std::string(checked_utf8(text, InvalidUtf8::replace, storage));
}

std::string nfc(std::u32string_view text) {
    std::string storage;
    return std::string(normalize_nfc(utf8(text), storage));
}

std::vector<std::string> words(std::string_view text) {
    std::vector<std::string> out;
    for (size_t at = 0; at < text.size();) {
        const size_t end = next_word_end(text, at);
        out.emplace_back(text.substr(at, end - at));
        at = end;
    }
    return out;
}

}  // namespace

TEST_CASE("utf8: every code point encodes and decodes") {
    for (char32_t c = 0; c < 0x110000; ++c) {
        if (c >= 0xD800 && c < 0xE000) continue;
        std::string text;
        append_utf8(text, c);
        const DecodedCharacter decoded = decode_utf8(text, 0);
        const DecodedCharacter trusted = decode_valid_utf8(text.data());
        if (!decoded.valid || decoded.code_point != c || decoded.length != text.size())
            FAIL("code point " << uint32_t{c});
        if (trusted.code_point != c || trusted.length != text.size())
            FAIL("code point " << uint32_t{c} << ", unchecked");
    }
}

TEST_CASE("utf8: ill-formed bytes are replaced by maximal subparts") {
    // Unicode 15, table 3-8 to 3-11; Python's errors="replace" gives the same.
    const std::string r = "\xEF\xBF\xBD";
    CHECK(repaired("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41") == r + r + r + r + r + r + r + r + "A");
    CHECK(repaired("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41") == r + r + r + r + r + r + r + r + "A");
    CHECK(repaired("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42") == r + r + r + r + r + "A" + r + r + "B");
    CHECK(repaired("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41") == r + r + r + r + "A");
    CHECK(repaired("abc\xE2\x82") == "abc" + r);
    CHECK(repaired("\xE2\x82\xAC") == "\xE2\x82\xAC");
}

TEST_CASE("utf8: an error names the byte") {
    std::string storage;
    const std::string text = "plain ascii, then \xC3\xA9 and \xFF";
    const std::string message =
        test::message_of([&] { checked_utf8(text, InvalidUtf8::error, storage, 1000); });
    CHECK(message.find("byte " + std::to_string(1000 + text.size() - 1) + " (0xff)") != std::string::npos);
}

TEST_CASE("utf8: random bytes are repaired into valid text") {
    std::mt19937 random(7);
    for (int round = 0; round < 2000; ++round) {
        std::string bytes(random() % 40, '\0');
        for (char& b : bytes) b = static_cast<char>(random() % 3 ? 0x80 | random() : random());
        const std::string text = repaired(bytes);
        REQUIRE(valid_utf8_prefix(text) == text.size());
        REQUIRE(repaired(text) == text);
    }
}

TEST_CASE("unicode: classes of characters") {
    using enum CharacterClass;
    CHECK(character_class('a') == letter);
    CHECK(character_class(0xAA) == letter);    // feminine ordinal, Lo
    CHECK(character_class(0x4E2D) == letter);
    CHECK(character_class(0x1E9E) == letter);
    CHECK(character_class('7') == number);
    CHECK(character_class(0xBD) == number);    // one half, No
    CHECK(character_class(0x2167) == number);  // Roman eight, Nl
    CHECK(character_class(' ') == space);
    CHECK(character_class(0x85) == space);
    CHECK(character_class(0x3000) == space);
    CHECK(character_class(0x180E) == other);   // was a space until Unicode 6.3
    CHECK(character_class(0x200B) == other);
    CHECK(character_class(0x301) == other);
    CHECK(character_class(0x10FFFF) == other);
    CHECK(character_class(0x323AF) == letter);  // assigned in Unicode 15
}

TEST_CASE("unicode: NFC composes, orders and leaves alone what the package does") {
    CHECK(nfc(U"plain") == "plain");
    CHECK(nfc(U"e\u0301") == utf8(U"\u00e9"));
    CHECK(nfc(U"xe\u0301\u0323y") == utf8(U"x\u1eb9\u0301y"));
    CHECK(nfc(U"\u212B") == utf8(U"\u00c5"));
    CHECK(nfc(U"\u1112\u1161\u11ab") == utf8(U"\ud55c"));
    CHECK(nfc(U"\ud558\u11ab") == utf8(U"\ud55c"));
    CHECK(nfc(U"\u0958") == utf8(U"\u0915\u093c"));                    // a composition exclusion
    CHECK(nfc(U"\u0301e") == utf8(U"\u0301e"));
    CHECK(nfc(U"a\u0345\u0301") == utf8(U"\u00e1\u0345"));
    CHECK(nfc(U"\U00011935\U00011930") == utf8(U"\U00011935\U00011930"));  // composes from Unicode 13 on
    CHECK(nfc(U"\U000105D2\u0307") == utf8(U"\U000105D2\u0307"));          // composes from Unicode 16 on
    CHECK(nfc(U"a\u0345\u1ABF") == utf8(U"a\u0345\u1ABF"));                // moves from Unicode 13 on
}

TEST_CASE("unicode: text may be normalised in parts cut before an inert character") {
    std::mt19937 random(11);
    const std::u32string pool =
        U"aeK\u0301\u0327\u0345\u0334\u00e9\u1100\u1161\u11a8\uac00\u0915\u093c\u09c7\u09be\u212b \u08d3";
    for (int round = 0; round < 3000; ++round) {
        std::u32string text;
        for (int i = 0; i < 12; ++i) text.push_back(pool[random() % pool.size()]);
        const size_t cut = random() % text.size();
        if (is_nfc_active(text[cut])) continue;
        REQUIRE(nfc(text.substr(0, cut)) + nfc(text.substr(cut)) == nfc(text));
    }
}

TEST_CASE("pre-tokenizer: GPT-2 words") {
    using Words = std::vector<std::string>;
    CHECK(words("Hello world") == Words{"Hello", " world"});
    CHECK(words("don't we'LL 's") == Words{"don", "'t", " we", "'", "LL", " '", "s"});
    CHECK(words("they'll I've you're I'm he'd") ==
          Words{"they", "'ll", " I", "'ve", " you", "'re", " I", "'m", " he", "'d"});
    CHECK(words("a  b   c") == Words{"a", " ", " b", "  ", " c"});
    CHECK(words("a\n\nb") == Words{"a", "\n", "\n", "b"});
    CHECK(words("a \n b") == Words{"a", " \n", " b"});
    CHECK(words("a   ") == Words{"a", "   "});
    CHECK(words("abc123!? x") == Words{"abc", "123", "!?", " x"});
    CHECK(words(" ") == Words{" "});
    CHECK(words("'") == Words{"'"});
    CHECK(words("'l'v'r") == Words{"'", "l", "'", "v", "'", "r"});
    CHECK(words("x\u00a0y\u3000\u3000z") == Words{"x", "\u00a0", "y", "\u3000", "\u3000", "z"});
}

TEST_CASE("pre-tokenizer: text cut where is_word_cut allows has the words of the whole") {
    std::mt19937 random(13);
    const std::u32string pool = U"ab1'st.  \n\t\u00a0\u00e9\u0301\u3000\u2000";
    for (int round = 0; round < 3000; ++round) {
        std::u32string characters;
        for (int i = 0; i < 14; ++i) characters.push_back(pool[random() % pool.size()]);
        const std::string text = utf8(characters);
        for (size_t at = 1; at < text.size(); ++at) {
            if (!is_word_cut(text, at)) continue;
            auto left = words(std::string_view(text).substr(0, at));
            const auto right = words(std::string_view(text).substr(at));
            left.insert(left.end(), right.begin(), right.end());
            REQUIRE(left == words(text));
        }
    }
}

}  // namespace ballast::data
