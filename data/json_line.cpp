#include "data/json_line.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace ballast::data {
namespace {

/// What a string holds as it stands: neither its end, nor an escape, nor a control character.
constexpr bool is_plain(char c) { return c != '"' && c != '\\' && static_cast<uint8_t>(c) >= 0x20; }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_high_surrogate(char32_t c) { return c >= 0xD800 && c < 0xDC00; }
constexpr bool is_low_surrogate(char32_t c) { return c >= 0xDC00 && c < 0xE000; }

/// Reads one line from front to back.
class JsonLineReader {
  public:
    JsonLineReader(std::string_view line, InvalidUtf8 policy) : line_(line), policy_(policy) {}

    /// `group_key` is empty, a field, or a field of a field with a dot between them.
    TextField text_of(std::string_view key, std::string& text, std::string_view group_key, std::string& group) {
        const size_t dot = std::min(group_key.find('.'), group_key.size());
        const std::string_view outer = group_key.substr(0, dot),
                               inner = group_key.substr(std::min(dot + 1, group_key.size()));
        auto result = TextField::missing;
        group.clear();
        take("\xEF\xBB\xBF");  // the mark that begins a file in some editors, and in the middle of joined ones
        skip_space();
        if (!take('{')) fail("no JSON object starts here");
        skip_space();
        if (!take('}')) {
            do {
                read_key();
                const bool is_outer_key = !outer.empty() && key_ == outer;
                if (key_ == key)
                    result = read_text_or_null(key, text);
                else if (is_outer_key && inner.empty() && peek() == '"')
                    read_string(&group);
                else if (is_outer_key && !inner.empty() && peek() == '{')
                    read_field(inner, group);
                else
                    skip_value();
                skip_space();
            } while (take(','));
            if (!take('}')) fail("a comma or } is missing");
        }
        skip_space();
        if (at_ < line_.size()) fail("something follows the object");
        return result;
    }

  private:
    [[noreturn]] void fail(std::string_view what) const {
        if (at_ >= line_.size()) throw UserError(fmt::format("bad JSON: the line ends too early, at byte {}", at_));
        throw UserError(fmt::format("bad JSON at byte {}: {}", at_, what));
    }

    char peek() const { return at_ < line_.size() ? line_[at_] : '\0'; }
    bool take(char c) {
        if (at_ >= line_.size() || line_[at_] != c) return false;
        ++at_;
        return true;
    }
    bool take(std::string_view word) {
        if (line_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }
    void skip_space() {
        while (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n') ++at_;
    }

    const std::string& read_key() {
        skip_space();
        read_string(&key_, InvalidUtf8::replace);
        skip_space();
        if (!take(':')) fail("a colon is missing");
        skip_space();
        return key_;
    }

    TextField read_text_or_null(std::string_view key, std::string& text) {
        if (take("null")) return TextField::missing;
        if (peek() != '"')
            throw UserError(fmt::format("field \"{}\" at byte {} is not text; name another with --text-key", key, at_));
        read_string(&text, policy_);
        return TextField::found;
    }

    /// Of the object that starts here: the text of one field, if it is text.
    void read_field(std::string_view key, std::string& text) {
        take('{');
        skip_space();
        if (take('}')) return;
        do {
            if (read_key() == key && peek() == '"')
                read_string(&text);
            else
                skip_value();
            skip_space();
        } while (take(','));
        if (!take('}')) fail("a comma or } is missing");
    }

    /// Into `out`, unless that is null.
    void read_string(std::string* out, InvalidUtf8 policy = InvalidUtf8::replace) {
        if (!take('"')) fail("a string in quotes is missing");
        if (out) out->clear();
        for (;;) {
            const size_t begin = at_;
            while (at_ < line_.size() && is_plain(line_[at_])) ++at_;
            if (out) out->append(line_.substr(begin, at_ - begin));
            if (take('"')) return;
            if (take('\\'))
                read_escape(out, policy);
            else
                fail("a control character in a string; escape it");
        }
    }

    void read_escape(std::string* out, InvalidUtf8 policy) {
        constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
        char32_t character;
        if (take('u')) {
            character = read_unit();
            if (is_high_surrogate(character)) character = read_pair(character);
        } else {
            const size_t letter = kLetters.find(peek());
            if (at_ >= line_.size() || letter == std::string_view::npos) fail("an unknown escape in a string");
            character = static_cast<char32_t>(kMeanings[letter]);
            ++at_;
        }
        if (!out) return;
        if (is_high_surrogate(character) || is_low_surrogate(character)) {
            if (policy == InvalidUtf8::error)
                throw UserError(
                    fmt::format("half of a surrogate pair (\\u{:04x}) before byte {} is no character; mend "
                                "the text or pass --invalid-utf8 replace",
                                static_cast<uint32_t>(character), at_));
            character = kReplacementCharacter;
        }
        append_utf8(*out, character);
    }

    /// The four hexadecimal digits of \uXXXX.
    char32_t read_unit() {
        char32_t unit = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            constexpr std::string_view kDigits = "0123456789abcdef";
            const char c = peek();
            const size_t digit = kDigits.find(c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c);
            if (at_ >= line_.size() || digit == std::string_view::npos) fail("\\u wants four hexadecimal digits");
            unit = unit << 4 | static_cast<char32_t>(digit);
        }
        return unit;
    }

    /// The character of a pair that begins with `high`, or `high` itself when no other half follows.
    char32_t read_pair(char32_t high) {
        const size_t before = at_;
        if (take("\\u")) {
            const char32_t low = read_unit();
            if (is_low_surrogate(low)) return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        }
        at_ = before;
        return high;
    }

    /// Iteratively, so that nesting costs a byte a level instead of stack.
    void skip_value() {
        std::string open;  // the brackets to be closed
        do {
            skip_space();
            if (take('{')) {
                skip_space();
                if (take('}'))
                    continue_after_value(open);
                else
                    open += '}', read_key();
            } else if (take('[')) {
                skip_space();
                if (take(']'))
                    continue_after_value(open);
                else
                    open += ']';
            } else {
                skip_scalar();
                continue_after_value(open);
            }
        } while (!open.empty());
    }

    /// Closes what ends here, or steps over the comma before the next value.
    void continue_after_value(std::string& open) {
        while (!open.empty()) {
            skip_space();
            if (take(',')) {
                if (open.back() == '}') read_key();
                return;
            }
            if (!take(open.back())) fail("a comma or a closing bracket is missing");
            open.pop_back();
        }
    }

    void skip_scalar() {
        if (peek() == '"') return read_string(nullptr);
        for (const std::string_view word : {"null", "true", "false", "NaN", "Infinity", "-Infinity"})
            if (take(word)) return;
        skip_number();
    }

    void skip_number() {
        take('-');
        if (!take('0')) skip_digits();
        if (take('.')) skip_digits();
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            skip_digits();
        }
    }
    void skip_digits() {
        if (!is_digit(peek())) fail("no JSON value starts here");
        while (is_digit(peek())) ++at_;
    }

    std::string_view line_;
    InvalidUtf8 policy_;
    size_t at_ = 0;
    std::string key_;
};

}  // namespace

TextField text_of_json_line(std::string_view line, std::string_view key, InvalidUtf8 policy, std::string& text,
                            std::string_view group_key, std::string& group) {
    return JsonLineReader(line, policy).text_of(key, text, group_key, group);
}

TextField text_of_json_line(std::string_view line, std::string_view key, InvalidUtf8 policy, std::string& text) {
    std::string none;
    return text_of_json_line(line, key, policy, text, "", none);
}

}  // namespace ballast::data
