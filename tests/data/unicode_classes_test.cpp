// Our tables of code points against the shared list of what the `tokenizers` package accepts.
#include "data/unicode_classes.h"

#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "data/unicode.h"
#include "data/utf8.h"
#include "tests/catch.h"
#include "tests/data/fixtures.h"

namespace ballast::data {
namespace {

using Json = nlohmann::json;

constexpr char32_t kEnd = 0x110000;
bool is_surrogate(char32_t c) { return c >= 0xD800 && c < 0xE000; }

/// "41-5A" and "AA" as a set.
std::vector<bool> members(const Json& ranges) {
    std::vector<bool> set(kEnd);
    for (const std::string range : ranges) {
        const size_t dash = range.find('-');
        const auto first = std::stoul(range.substr(0, dash), nullptr, 16);
        const auto last = dash == std::string::npos ? first : std::stoul(range.substr(dash + 1), nullptr, 16);
        for (auto c = first; c <= last; ++c) set[c] = true;
    }
    return set;
}

void compare_class(const Json& classes, const char* name, bool ours(char32_t)) {
    const std::vector<bool> theirs = members(classes.at(name));
    int64_t differences = 0;
    for (char32_t c = 0; c < kEnd; ++c)
        if (!is_surrogate(c)) differences += ours(c) != theirs[c];
    INFO(name);
    CHECK(differences == 0);
}

/// "69 307" as UTF-8.
std::string text_of(const std::string& code_points) {
    std::string text;
    for (size_t at = 0; at < code_points.size();) {
        size_t length = 0;
        append_utf8(text, static_cast<char32_t>(std::stoul(code_points.substr(at), &length, 16)));
        at += length;
    }
    return text;
}

}  // namespace

TEST_CASE("unicode classes: each equals the package's, in its own Unicode version") {
    const auto path = test::shared_data("tokenizers/char_classes.json");
    if (!path) return;
    const Json classes = Json::parse(read_file(*path));
    compare_class(classes, "punctuation", is_punctuation);
    compare_class(classes, "numeric", is_numeric);
    compare_class(classes, "whitespace", is_white_space);
    compare_class(classes, "bert_removed", is_bert_removed);
    compare_class(classes, "bert_to_space", [](char32_t c) { return is_bert_space(c) && c != ' '; });
    compare_class(classes, "bert_spaced", is_bert_spaced);
    compare_class(classes, "bert_stripped", is_bert_stripped);
    compare_class(classes, "regex_letter", [](char32_t c) { return character_class(c) == CharacterClass::letter; });
    compare_class(classes, "regex_number", [](char32_t c) { return character_class(c) == CharacterClass::number; });
    compare_class(classes, "regex_space", [](char32_t c) { return character_class(c) == CharacterClass::space; });
}

TEST_CASE("unicode classes: lower case and letters without accents equal the package's") {
    const auto path = test::shared_data("tokenizers/char_classes.json");
    if (!path) return;
    const Json classes = Json::parse(read_file(*path));
    const Json &lower = classes.at("lowercase"), &bare = classes.at("strip_accents");
    int64_t differences = 0;
    for (char32_t c = 0; c < kEnd; ++c) {
        if (is_surrogate(c) || is_bert_stripped(c) || (c >= 0xAC00 && c < 0xD7A4)) continue;
        char key[8];
        std::snprintf(key, sizeof key, "%X", static_cast<unsigned>(c));
        std::string itself, ours;
        append_utf8(itself, c);
        append_lowercase(ours, c);
        differences += ours != (lower.contains(key) ? text_of(lower.at(key)) : itself);
        ours.clear();
        append_without_accents(ours, c);
        differences += ours != (bare.contains(key) ? text_of(bare.at(key)) : itself);
    }
    CHECK(differences == 0);
}

TEST_CASE("unicode classes: some of each, where the shared list is not at hand") {
    const auto lower = [](char32_t c) {
        std::string out;
        append_lowercase(out, c);
        return out;
    };
    const auto bare = [](char32_t c) {
        std::string out;
        append_without_accents(out, c);
        return out;
    };
    CHECK(is_punctuation(U'$'));     // ASCII symbols count
    CHECK(!is_punctuation(0x20AC));  // others do not: the euro
    CHECK(is_numeric(0xBD));
    CHECK(is_word(U'_'));
    CHECK(!is_word(U'-'));
    CHECK(is_bert_removed(0));
    CHECK(is_bert_space(U'\t'));
    CHECK(is_bert_spaced(0x4E2D));
    CHECK(!is_bert_spaced(0x3042));
    CHECK(lower(0x3A3) == "\u03C3");
    CHECK(lower(0x130) == "i\u0307");
    CHECK(lower(0x101) == "\u0101");
    CHECK(lower(0x100) == "\u0101");
    CHECK(bare(0xE9) == "e");
    CHECK(bare(0x301) == "");
    CHECK(bare(0xD55C) == "\u1112\u1161\u11AB");
}

}  // namespace ballast::data
