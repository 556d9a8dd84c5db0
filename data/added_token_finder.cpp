#include "data/added_token_finder.h"

#include <algorithm>

#include "data/unicode_classes.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

/// The character that ends before byte `at`, which is not 0.
DecodedCharacter character_before(std::string_view text, size_t at) {
    do --at;
    while (at > 0 && is_utf8_continuation(text[at]));
    return decode_valid_utf8(text.data() + at);
}

}  // namespace

void AddedTokenFinder::add(std::string_view content, const AddedToken& token) {
    matcher_.add(content, token.id);
    if (token.lstrip || token.rstrip || token.single_word)
        wants_.emplace(token.id, Wants{token.lstrip, token.rstrip, token.single_word});
}

bool AddedTokenFinder::fit(std::string_view text, uint32_t id, size_t done, size_t& begin, size_t& end) const {
    const auto found = wants_.find(id);
    if (found == wants_.end()) return true;
    const Wants& wants = found->second;
    if (wants.single_word && ((begin > 0 && is_word(character_before(text, begin).code_point)) ||
                              (end < text.size() && is_word(decode_valid_utf8(text.data() + end).code_point))))
        return false;
    while (wants.lstrip && begin > done) {
        const DecodedCharacter c = character_before(text, begin);
        if (!is_white_space(c.code_point)) break;
        begin -= c.length;
    }
    while (wants.rstrip && end < text.size()) {
        const DecodedCharacter c = decode_valid_utf8(text.data() + end);
        if (!is_white_space(c.code_point)) break;
        end += c.length;
    }
    return true;
}

}  // namespace ballast::data
