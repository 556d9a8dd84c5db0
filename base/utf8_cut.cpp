#include "base/utf8_cut.h"

#include <algorithm>

namespace ballast {

size_t count_characters(std::string_view text) {
    return static_cast<size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return !is_utf8_continuation(c); }));
}

std::string_view first_characters(std::string_view text, size_t count) {
    size_t seen = 0;
    for (size_t i = 0; i < text.size(); ++i)
        if (!is_utf8_continuation(text[i]) && seen++ == count) return text.substr(0, i);
    return text;
}

std::string_view last_characters(std::string_view text, size_t count) {
    size_t begin = text.size();
    for (size_t kept = 0; kept < count && begin > 0;)
        if (!is_utf8_continuation(text[--begin])) ++kept;
    return text.substr(begin);
}

std::string_view first_bytes(std::string_view text, size_t bytes) {
    if (text.size() <= bytes) return text;
    while (bytes > 0 && is_utf8_continuation(text[bytes])) --bytes;
    return text.substr(0, bytes);
}

}  // namespace ballast
