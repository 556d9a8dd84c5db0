// The tokenizer: text to ids and back. Reads and writes Hugging Face tokenizer.json (byte-level BPE, GPT-NeoX's kind)
// and gives the ids the `tokenizers` package gives.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/bpe.h"
#include "data/token_matcher.h"
#include "data/tokenizer_spec.h"
#include "data/utf8.h"
#include "data/word_cache.h"

namespace ballast::data {

/// Immutable once made; threads may share it.
class Tokenizer {
  public:
    /// UserError for a missing file and as parse_tokenizer_json().
    static Tokenizer load(const std::string& path);
    explicit Tokenizer(TokenizerSpec spec);
    Tokenizer(Tokenizer&&) = default;
    Tokenizer(const Tokenizer&) = delete;

    /// Writes tokenizer.json, atomically.
    void save(const std::string& path) const;

    /// The ids of `text`. Added tokens in it, special ones too, become their ids, as in the package. For much text,
    /// keep an Encoder. UserError for invalid UTF-8 under InvalidUtf8::error.
    std::vector<uint32_t> encode(std::string_view text, InvalidUtf8 policy = InvalidUtf8::error) const;

    /// The bytes of `ids`, special tokens included; not necessarily UTF-8, as a token may be part of a character.
    /// UserError for an id that stands for no token.
    std::string decode(std::span<const uint32_t> ids) const;

    /// The bytes of one token, or nothing when there is none with this id.
    std::optional<std::string_view> token_bytes(uint32_t id) const;

    /// Highest id + 1.
    int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }

    /// The id of a token as spelt in tokenizer.json ("<|endoftext|>", "Ġthe").
    std::optional<uint32_t> token_id(std::string_view spelling) const;

    /// <|endoftext|>, when there is one.
    std::optional<uint32_t> end_of_text_id() const { return token_id("<|endoftext|>"); }

    /// 32 hexadecimal digits over all that decides the ids; the same however the file is laid out.
    const std::string& hash() const { return hash_; }

    /// The last place at which `text`, the beginning of something longer, can be cut so that the ids of the two parts
    /// are those of the whole; 0 when there is none. It lies between a character and the white space after it.
    size_t last_safe_cut(std::string_view text) const;

    const TokenizerSpec& spec() const { return spec_; }

  private:
    friend class Encoder;
    void add_token(const std::string& spelling, uint32_t id);
    bool is_safe_cut(std::string_view text, size_t at) const;

    TokenizerSpec spec_;
    MergeTable merges_;
    TokenMatcher raw_tokens_;         // matched in the text as it stands
    TokenMatcher normalized_tokens_;  // matched after NFC
    std::vector<std::optional<std::string>> tokens_;       // id -> bytes
    std::unordered_map<std::string_view, uint32_t> ids_;   // spelling, inside spec_ -> id
    std::string hash_;
};

/// Encodes with one tokenizer, remembering the words it has met. One object a thread; the tokenizer must outlive it.
class Encoder {
  public:
    explicit Encoder(const Tokenizer& tokenizer, InvalidUtf8 policy = InvalidUtf8::error)
        : tokenizer_(tokenizer), policy_(policy), merger_(tokenizer.merges_) {}

    /// Appends the ids of `text` to `out`. Byte offsets in errors count from `first_offset`.
    void encode(std::string_view text, std::vector<uint32_t>& out, int64_t first_offset = 0);

  private:
    void encode_unmatched(std::string_view text, std::vector<uint32_t>& out);
    void encode_words(std::string_view text, std::vector<uint32_t>& out);
    void encode_word(std::string_view word, std::vector<uint32_t>& out);
    void merge_word(std::string_view word, std::vector<uint32_t>& out);

    const Tokenizer& tokenizer_;
    InvalidUtf8 policy_;
    WordMerger merger_;
    WordCache cache_;
    std::string repaired_, normalized_, prefixed_;  // scratch
};

}  // namespace ballast::data
