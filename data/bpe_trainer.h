// Learns a byte-level BPE vocabulary from text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/corpus.h"
#include "data/tokenizer_spec.h"

namespace ballast {
class ThreadPool;
}

namespace ballast::data {

struct BpeTrainerOptions {
    int64_t vocab_size = 0;  ///< special tokens and the 256 bytes included
    std::vector<std::string> special_tokens = {"<|endoftext|>", "<|padding|>"};  ///< ids 0, 1, …
    int64_t min_frequency = 0;  ///< pairs seen less often than this are not merged
    InvalidUtf8 invalid_utf8 = InvalidUtf8::error;
};

/// Counts words, then merges the most frequent pair of tokens until the vocabulary is full or no pair is left. Among
/// equally frequent pairs the one with the lowest ids is merged first, as in the `tokenizers` package. So the result
/// depends on the text alone, and equals the package's for the same texts (train_from_iterator, NFC, ByteLevel
/// alphabet).
class BpeTrainer {
  public:
    /// UserError when the vocabulary is too small for the special tokens and the bytes, or a special token is repeated.
    explicit BpeTrainer(BpeTrainerOptions options);

    /// Counts the words of texts, each text separately, in parallel. UserError, naming the text's source, for invalid
    /// UTF-8.
    void add_texts(const std::vector<TextPiece>& texts, ThreadPool& pool);

    /// The trained tokenizer: NFC, GPT-2 words, no prefix space.
    TokenizerSpec train() const;

  private:
    struct WordHash {
        using is_transparent = void;
        size_t operator()(std::string_view word) const { return std::hash<std::string_view>{}(word); }
    };
    using WordCounts = std::unordered_map<std::string, int64_t, WordHash, std::equal_to<>>;

    void count_words(const TextPiece& piece, WordCounts& counts) const;

    BpeTrainerOptions options_;
    std::vector<WordCounts> counts_;  // one per thread; only their sum matters
};

}  // namespace ballast::data
