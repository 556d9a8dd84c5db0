#include "data/json_line.h"

#include "base/error.h"
#include "tests/base/message_of.h"
#include "tests/catch.h"

namespace ballast::data {
namespace {

/// The text of `line`; "<missing>" when it has none.
std::string text_of(std::string_view line, InvalidUtf8 policy = InvalidUtf8::error) {
    std::string text;
    return text_of_json_line(line, "text", policy, text) == TextField::found ? text : "<missing>";
}

std::string message_of_line(std::string_view line) {
    return test::message_of([&] { text_of(line); });
}

}  // namespace

TEST_CASE("json line: the text is what Python's json module gives") {
    CHECK(text_of(R"({"text": "plain"})") == "plain");
    CHECK(text_of(" \t{ \"text\" :\"\" } \r") == "");
    CHECK(text_of(R"({"text":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20aC\ud83d\ude00"})") ==
          "\"\\/\b\f\n\r\tA\u00e9\u20ac\U0001F600");
    CHECK(text_of(R"({"text": "nul \u0000 inside"})") == std::string("nul \0 inside", 12));
    CHECK(text_of("{\"text\": \"caf\u00e9 \u2028 \x7f\"}") == "caf\u00e9 \u2028 \x7f");
    CHECK(text_of(R"({"t\u0065xt": "an escaped name"})") == "an escaped name");
    CHECK(text_of(R"({"text": "first", "text": "last"})") == "last");
    CHECK(text_of("\xEF\xBB\xBF{\"text\": \"after a mark\"}") == "after a mark");
}

TEST_CASE("json line: other fields are stepped over, whatever they hold") {
    for (const char* value : {"NaN", "Infinity", "-Infinity", "1e99999", "-0.5E+7", "123456789012345678901234567890",
                              "0", "true", "false", "null", "\"a } \\\" ] \\ud800\"", "{}", "[]",
                              "{\"a\": [1, {\"text\": \"inner\"}, []], \"b\": {}}", "[[[ ], {\"x\" : NaN} ] ]"}) {
        INFO(value);
        CHECK(text_of("{\"a\": " + std::string(value) + ", \"text\": \"found\"}") == "found");
        CHECK(text_of("{\"text\": \"found\", \"z\":" + std::string(value) + "}") == "found");
    }
    const std::string deep = std::string(200000, '[') + std::string(200000, ']');
    CHECK(text_of("{\"a\": " + deep + ", \"text\": \"found\"}") == "found");
}

TEST_CASE("json line: no text and null are told from text that is empty") {
    for (const char* line : {"{}", "{ }", R"({"other": "x"})", R"({"text": null})", R"({"a": {"text": "inner"}})",
                             R"({"text": "first", "text": null})"}) {
        INFO(line);
        CHECK(text_of(line) == "<missing>");
    }
}

TEST_CASE("json line: halves of surrogate pairs are errors or U+FFFD, in the text alone") {
    for (const char* half : {"\\ud800", "\\udc00", "\\ud800x", "\\ud800\\u0041", "\\udc00\\ud800"}) {
        INFO(half);
        const std::string line = "{\"text\": \"a" + std::string(half) + "\"}";
        CHECK(message_of_line(line).find("half of a surrogate pair (\\ud") == 0);
        CHECK(text_of(line, InvalidUtf8::replace).find("a\uFFFD") == 0);
        CHECK(text_of("{\"other\": \"" + std::string(half) + "\", \"text\": \"fine\"}") == "fine");
    }
    CHECK(text_of(R"({"text": "\ud800\ud83d\ude00"})", InvalidUtf8::replace) == "\uFFFD\U0001F600");
}

TEST_CASE("json line: what is no JSON object is refused with its byte") {
    CHECK(message_of_line("nonsense") == "bad JSON at byte 0: no JSON object starts here");
    CHECK(message_of_line("{\"text\": 3}").find("field \"text\" at byte 9 is not text") == 0);
    for (const char* line : {"",
                             "[\"text\"]",
                             "\"text\"",
                             "{",
                             "{\"text\"",
                             "{\"text\":",
                             "{\"text\": \"open",
                             "{\"text\": \"x\"",
                             "{\"text\": \"x\",}",
                             "{\"text\": \"x\"} {}",
                             "{\"text\": \"x\" \"y\"}",
                             "{text: \"x\"}",
                             "{'text': 'x'}",
                             "{\"text\": \"tab\there\"}",
                             "{\"text\": \"\\x41\"}",
                             "{\"text\": \"\\u12\"}",
                             "{\"text\": \"\\",
                             "{\"a\": 01}",
                             "{\"a\": .5}",
                             "{\"a\": 1.}",
                             "{\"a\": -}",
                             "{\"a\": 1e}",
                             "{\"a\": nan}",
                             "{\"a\": +1}",
                             "{\"a\": [1 2]}",
                             "{\"a\": [1}}",
                             "{\"a\": {\"b\"}}",
                             "{\"a\": {1: 2}}",
                             "{\"a\": [1,]}",
                             "{\"a\": }",
                             "{\"a\" 1}",
                             "{,}",
                             "{\"text\": {}}",
                             "{\"text\": true}"}) {
        INFO(line);
        CHECK_THROWS_AS(text_of(line), UserError);
    }
    for (size_t length = 0; length < 40; ++length)  // any beginning of a good line
        CHECK_THROWS_AS(text_of(std::string_view(R"({"a": [{"b": "\u00e9"}, -1.5e3], "text": "x"})").substr(0, length)),
                        UserError);
}

}  // namespace ballast::data
