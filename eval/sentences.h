// Sentences of an exact number of tokens, as the attention figures of StreamingLLM (Xiao et al., ICLR 2024, Figures 2,
// 7 and 11 to 13) are averaged over.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::eval {

/// The sentences of a text, white space inside them made single spaces. One ends
///   * after . ! ? or …, with what closes quotes and brackets, before white space; but not after a word of at most
///   three
///     letters that begins with a capital and ends in a full stop (Mr., Dr., St., J.);
///   * at a blank line.
std::vector<std::string> split_sentences(std::string_view text);

struct SentenceSequences {
    std::vector<std::vector<uint32_t>> sequences;
    int64_t whole = 0;  // of them, those that end with a sentence
};

using EncodeText = std::function<std::vector<uint32_t>(std::string_view text)>;

/// At most `count` sequences of exactly `length` tokens. Each begins with a sentence, and is encoded by itself: the
/// sentence, and those after it with one space between, until they have `length` tokens. Where they have exactly as
/// many the sequence is whole; where they have more it is their first `length` tokens. Whole ones come first; both
/// kinds are taken evenly spread over the text. UserError when no sentence goes on for `length` tokens before the text
/// ends.
SentenceSequences sentence_sequences(std::string_view text, const EncodeText& encode, int64_t length, int64_t count);

}  // namespace ballast::eval
