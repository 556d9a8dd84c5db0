// Sentences with an exact number of tokens: the attention figures of StreamingLLM (Xiao et al., ICLR 2024, Figures 2, 7
// and 11 to 13) are means over such sentences.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ballast::eval {

/// The sentences of a text, with white space inside them replaced by single spaces. A sentence ends
///   * after . ! ? or …, with closing quotes and brackets, before white space; but not after a word of at most three
///     letters that begins with a capital and ends in a full stop (Mr., Dr., St., J.);
///   * at a blank line.
std::vector<std::string> split_sentences(std::string_view text);

struct SentenceSequences {
    std::vector<std::vector<uint32_t>> sequences;
    int64_t whole = 0;  // of these, the sequences that end with a sentence
};

using EncodeText = std::function<std::vector<uint32_t>(std::string_view text)>;

/// At most `count` sequences of exactly `length` tokens. Each one begins with a sentence and is encoded separately: the
/// sentence and the sentences after it, with one space between, until they have `length` tokens. When they have exactly
/// `length` tokens the sequence is whole; when they have more it is their first `length` tokens. Whole sequences come
/// first; both kinds are selected evenly over the text. `max_tokens`: no sentence counts from the first one on that
/// ends behind so many tokens, each sentence encoded by itself; 0: all count. UserError when no sentence has `length`
/// tokens before the end.
SentenceSequences sentence_sequences(std::string_view text, const EncodeText& encode, int64_t length, int64_t count,
                                     int64_t max_tokens = 0);

}  // namespace ballast::eval
