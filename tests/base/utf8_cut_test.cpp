#include "base/utf8_cut.h"

#include "tests/catch.h"

using namespace ballast;

TEST_CASE("utf-8: cuts fall between characters") {
    const std::string text = "a\u00e9\u20ac\U0001F600z";  // of 1, 2, 3, 4 and 1 bytes
    CHECK(count_characters(text) == 5);
    const std::string firsts[] = {"", "a", "a\u00e9", "a\u00e9\u20ac", "a\u00e9\u20ac\U0001F600", text, text};
    const std::string lasts[] = {"", "z", "\U0001F600z", "\u20ac\U0001F600z", "\u00e9\u20ac\U0001F600z", text, text};
    for (size_t n = 0; n < 7; ++n) {
        CHECK(first_characters(text, n) == firsts[n]);
        CHECK(last_characters(text, n) == lasts[n]);
    }
    const size_t kept[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t bytes = 0; bytes < 13; ++bytes) CHECK(first_bytes(text, bytes).size() == kept[bytes]);
    CHECK(first_characters("", 3).empty());
    CHECK(last_characters("", 3).empty());
}
