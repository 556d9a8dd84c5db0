#include "eval/sentences.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "base/error.h"

namespace ballast::eval {
namespace {

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_capital(char c) { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) { return is_capital(c) || (c >= 'a' && c <= 'z'); }

/// `text` without a mark of `marks` at its end; false when there is none.
template <size_t N>
bool drop_last(std::string_view& text, const std::array<std::string_view, N>& marks) {
    for (const std::string_view mark : marks)
        if (text.ends_with(mark)) {
            text.remove_suffix(mark.size());
            return true;
        }
    return false;
}

constexpr std::array<std::string_view, 8> kClosing{"\"", "'", ")", "]", "*", "\u201d", "\u2019", "\u00bb"};
constexpr std::array<std::string_view, 4> kEnds{".", "!", "?", "\u2026"};

bool is_abbreviation(std::string_view word) {
    if (!word.ends_with('.')) return false;
    word.remove_suffix(1);
    return !word.empty() && word.size() <= 3 && is_capital(word.front()) &&
           std::all_of(word.begin(), word.end(), is_letter);
}

bool ends_sentence(std::string_view word) {
    const std::string_view all = word;
    while (drop_last(word, kClosing)) {
    }
    std::string_view ended = word;
    return drop_last(ended, kEnds) && !(word.size() == all.size() && is_abbreviation(word));
}

/// The spread-out `wanted` of `from`.
std::vector<size_t> evenly(const std::vector<size_t>& from, size_t wanted) {
    std::vector<size_t> out;
    const size_t count = std::min(wanted, from.size());
    for (size_t i = 0; i < count; ++i) out.push_back(from[i * from.size() / count]);
    return out;
}

/// The sentences that end within the first `max_tokens` tokens.
std::vector<std::string> beginning_of(std::vector<std::string> sentences, const EncodeText& encode,
                                      int64_t max_tokens) {
    int64_t tokens = 0;
    size_t count = 0;
    while (count < sentences.size() && (tokens += std::ssize(encode(sentences[count]))) <= max_tokens) ++count;
    sentences.resize(count);
    return sentences;
}

enum class Cut { none, whole, inside };

struct Candidate {
    Cut cut = Cut::none;
    std::vector<uint32_t> tokens;
};

Candidate from_sentence(const std::vector<std::string>& sentences, size_t first, const EncodeText& encode,
                        size_t length) {
    Candidate out;
    std::string text;
    for (size_t i = first; i < sentences.size() && out.tokens.size() < length; ++i) {
        if (i > first) text += ' ';
        text += sentences[i];
        out.tokens = encode(text);
    }
    if (out.tokens.size() < length) return {};
    out.cut = out.tokens.size() == length ? Cut::whole : Cut::inside;
    out.tokens.resize(length);
    return out;
}

}  // namespace

std::vector<std::string> split_sentences(std::string_view text) {
    std::vector<std::string> out;
    std::string sentence;
    const auto end_sentence = [&] {
        if (!sentence.empty()) out.push_back(std::move(sentence));
        sentence.clear();
    };
    for (size_t at = 0; at < text.size();) {
        int lines = 0;
        for (; at < text.size() && is_space(text[at]); ++at) lines += text[at] == '\n';
        if (lines > 1) end_sentence();
        const size_t begin = at;
        while (at < text.size() && !is_space(text[at])) ++at;
        const std::string_view word = text.substr(begin, at - begin);
        if (word.empty()) break;
        if (!sentence.empty()) sentence += ' ';
        sentence += word;
        if (ends_sentence(word)) end_sentence();
    }
    end_sentence();
    return out;
}

SentenceSequences sentence_sequences(std::string_view text, const EncodeText& encode, int64_t length, int64_t count,
                                     int64_t max_tokens) {
    require(length >= 1 && count >= 1, "sequences need tokens");
    std::vector<std::string> sentences = split_sentences(text);
    if (max_tokens > 0) sentences = beginning_of(std::move(sentences), encode, max_tokens);
    const auto tokens = static_cast<size_t>(length), wanted = static_cast<size_t>(count);
    std::vector<Candidate> candidates;
    std::vector<size_t> whole, cut;
    for (size_t i = 0; i < sentences.size(); ++i) {
        candidates.push_back(from_sentence(sentences, i, encode, tokens));
        if (candidates.back().cut == Cut::whole) whole.push_back(i);
        if (candidates.back().cut == Cut::inside) cut.push_back(i);
    }
    SentenceSequences out;
    for (const size_t i : evenly(whole, wanted)) out.sequences.push_back(std::move(candidates[i].tokens));
    out.whole = static_cast<int64_t>(out.sequences.size());
    for (const size_t i : evenly(cut, wanted - out.sequences.size()))
        out.sequences.push_back(std::move(candidates[i].tokens));
    if (out.sequences.empty())
        throw UserError(fmt::format("no sentence of {} goes on for {} tokens; give more text or a smaller --length",
                                    max_tokens > 0 ? fmt::format("the text's first {} tokens", max_tokens) : "the text",
                                    length));
    return out;
}

}  // namespace ballast::eval
