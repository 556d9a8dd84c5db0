// Translates Oniguruma's syntax to PCRE2's, for the subset that both share.
#include <fmt/format.h>

#include <charconv>
#include <span>

#include "base/error.h"
#include "data/foreign_pattern.h"
#include "data/unicode_classes.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

std::string range_item(char32_t first, char32_t last) { return fmt::format("\\x{{{:x}}}-\\x{{{:x}}}", +first, +last); }

/// A set of code points as the inside of a class.
std::string class_items(std::span<const CodePointRange> ranges) {
    std::string items;
    for (const CodePointRange& range : ranges) items += range_item(range.first, range.last);
    return items;
}

/// Everything else.
std::string complement_items(std::span<const CodePointRange> ranges) {
    constexpr char32_t kLast = 0x10FFFF;
    std::string items;
    char32_t next = 0;
    for (const CodePointRange& range : ranges) {
        if (range.first > next) items += range_item(next, range.first - 1);
        next = range.last + 1;
    }
    return items + range_item(next, kLast);
}

class Translator {
  public:
    explicit Translator(std::string_view pattern) : pattern_(pattern) {}

    std::string translate() {
        while (!at_end()) {
            const char c = take();
            if (c == '\\') {
                escape(false);
            } else if (c == '[') {
                character_class();
            } else if (c == '(') {
                group();
            } else if (c == '{') {
                interval();
            } else if (c == '^' || c == '$') {
                refuse(std::string(1, c));
            } else {
                out_ += c;
            }
        }
        return std::move(out_);
    }

  private:
    [[noreturn]] void refuse(const std::string& what) const {
        throw UserError(
            fmt::format("has {} at byte {}, which is not supported; Ballast has literals, (…), (?:…), (?i:…), (?>…), "
                        "lookaround, [classes], ? * + {{m,n}}, \\p{{L}}, \\p{{N}}, \\s, their negations, and \\r \\n "
                        "\\t \\xHH \\uHHHH",
                        what, at_));
    }
    bool at_end() const { return at_ == pattern_.size(); }
    bool follows(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
    char take() {
        if (at_end()) refuse("its end inside of something");
        return pattern_[at_++];
    }
    bool take_if(std::string_view text) {
        if (!follows(text)) return false;
        at_ += text.size();
        return true;
    }

    void add_code_point(uint32_t c) { out_ += fmt::format("\\x{{{:x}}}", c); }

    /// Hexadecimal digits of a code point: `count` of them, or any number up to a brace.
    void code_point(size_t count) {
        const bool braces = count == 0;
        const size_t end = braces ? pattern_.find('}', at_) : std::min(at_ + count, pattern_.size());
        uint32_t value = 0;
        const char* last = pattern_.data() + std::min(end, pattern_.size());
        const auto [stop, error] = std::from_chars(pattern_.data() + at_, last, value, 16);
        if (end == std::string_view::npos || error != std::errc{} || stop != last || value > 0x10FFFF)
            refuse("a broken \\x or \\u");
        at_ = end + (braces ? 1 : 0);
        add_code_point(value);
    }

    void add_set(std::span<const CodePointRange> ranges, bool negated, bool in_class) {
        const std::string items = negated && in_class ? complement_items(ranges) : class_items(ranges);
        out_ += in_class ? items : fmt::format("[{}{}]", negated ? "^" : "", items);
    }

    void property(bool negated, bool in_class) {
        if (take_if("{L}")) return add_set(letter_ranges(), negated, in_class);
        if (take_if("{N}")) return add_set(number_ranges(), negated, in_class);
        refuse(negated ? "\\P of another property" : "\\p of another property");
    }

    void escape(bool in_class) {
        const char c = take();
        switch (c) {
            case 'p':
            case 'P': return property(c == 'P', in_class);
            case 's':
            case 'S': return add_set(space_ranges(), c == 'S', in_class);
            case 'r': return add_code_point('\r');
            case 'n': return add_code_point('\n');
            case 't': return add_code_point('\t');
            case 'f': return add_code_point('\f');
            case 'v': return add_code_point('\v');
            case 'u': return code_point(4);
            case 'x': return code_point(take_if("{") ? 0 : 2);
            default: break;
        }
        const auto byte = static_cast<uint8_t>(c);
        const bool punctuation =
            byte > ' ' && byte < 0x7F && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
        if (!punctuation && c != ' ') refuse(fmt::format("\\{}", c));
        add_code_point(byte);
    }

    void character_class() {
        out_ += '[';
        if (take_if("^")) out_ += '^';
        if (follows("]")) refuse("an empty class");
        for (char c = take(); c != ']'; c = take()) {
            if (c == '\\') {
                escape(true);
            } else if (c == '[' || (c == '&' && follows("&"))) {
                refuse("a class in a class");
            } else {
                out_ += c;
            }
        }
        out_ += ']';
    }

    void group() {
        out_ += '(';
        if (!take_if("?")) return;
        for (const std::string_view kind : {":", "i:", "=", "!", "<=", "<!", ">"}) {
            if (!take_if(kind)) continue;
            out_.append("?").append(kind);
            return;
        }
        refuse("a group of another kind");
    }

    /// {n}, {n,} or {n,m}; a + behind it means another thing in each syntax.
    void interval() {
        const size_t end = pattern_.find('}', at_);
        const std::string_view inside = pattern_.substr(at_, end == std::string_view::npos ? end : end - at_);
        const bool digits = inside.find_first_not_of("0123456789,") == std::string_view::npos;
        if (end == std::string_view::npos || !digits || inside.empty() || inside[0] == ',' ||
            inside.find(',') != inside.rfind(','))
            refuse("a brace that is no {m,n}");
        at_ = end + 1;
        if (follows("+")) refuse("{m,n}+");
        out_.append("{").append(inside).append("}");
    }

    std::string_view pattern_;
    size_t at_ = 0;
    std::string out_;
};

}  // namespace

std::string to_pcre2(std::string_view pattern) { return Translator(pattern).translate(); }

}  // namespace ballast::data
