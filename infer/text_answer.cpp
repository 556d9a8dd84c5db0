#include "infer/text_answer.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/error.h"
#include "data/utf8.h"

namespace ballast::infer {

StopStrings::StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {
    for (const std::string& string : strings_) {
        if (string.empty()) throw UserError("a stop string is empty; every text would end before it begins");
        try {  // half a character would cut an answer into what is no text
            std::string unused;
            data::checked_utf8(string, data::InvalidUtf8::error, unused);
        } catch (const UserError& error) {
            throw UserError(fmt::format("a stop string is not UTF-8, as answers are: {}", error.what()));
        }
    }
}

std::string StopStrings::push(std::string_view text) {
    for (const char c : text) {
        if (stopped_) break;
        pending_ += c;
        size_t longest = 0;
        for (const std::string& string : strings_)
            if (pending_.ends_with(string)) longest = std::max(longest, string.size());
        if (longest == 0) continue;
        pending_.resize(pending_.size() - longest);
        stopped_ = true;
    }
    const size_t shown = pending_.size() - (stopped_ ? 0 : held_back());
    std::string out = pending_.substr(0, shown);
    pending_.erase(0, shown);
    return out;
}

/// How many last characters are the beginning of a stop string.
size_t StopStrings::held_back() const {
    size_t longest = 0;
    for (const std::string& string : strings_)
        for (size_t n = std::min(string.size() - 1, pending_.size()); n > longest; --n)
            if (pending_.ends_with(std::string_view(string).substr(0, n))) longest = n;
    return longest;
}

std::string StopStrings::finish() { return std::exchange(pending_, {}); }

TextAnswer::TextAnswer(const data::Tokenizer& tokenizer, std::vector<std::string> stop_strings)
    : tokenizer_(tokenizer), decoder_(tokenizer, true), stop_(std::move(stop_strings)) {}

std::string TextAnswer::push(int32_t id) {
    if (!tokenizer_.token_bytes(static_cast<uint32_t>(id))) return {};
    return stop_.push(decoder_.push(static_cast<uint32_t>(id)));
}

std::string TextAnswer::finish() {
    std::string out = stop_.push(decoder_.finish());
    return out + stop_.finish();
}

}  // namespace ballast::infer
