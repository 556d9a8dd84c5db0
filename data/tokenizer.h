// The tokenizer: text to ids and back. Reads Hugging Face tokenizer.json and SentencePiece tokenizer.model
// (docs/formats.md lists the steps), and gives the ids the `tokenizers` package gives.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/added_token_finder.h"
#include "data/piece_splitter.h"
#include "data/text_normalizer.h"
#include "data/token_decoder.h"
#include "data/tokenizer_spec.h"
#include "data/utf8.h"
#include "data/word_cache.h"
#include "data/word_model.h"

namespace ballast::data {

/// Options for encoding one text.
struct EncodeOptions {
    bool add_special = false;  ///< add the special tokens of the file's template: <s>, [CLS] … [SEP]
    bool continues = false;    ///< the text continues one that was cut at a place of last_safe_cut()
    int64_t first_offset = 0;  ///< byte offsets in errors count from this
};

/// Two texts in one sequence, for encoders of sentence pairs.
struct EncodedPair {
    std::vector<uint32_t> ids, type_ids;  ///< type: the segment, 0 or 1
};

/// Immutable; threads may share it.
class Tokenizer {
  public:
    /// A file whose name ends in ".model" is SentencePiece's, any other one tokenizer.json. UserError for a missing
    /// file and as parse_tokenizer_json() and parse_sentencepiece_model().
    static Tokenizer load(const std::string& path);
    explicit Tokenizer(TokenizerSpec spec);
    Tokenizer(Tokenizer&&) = default;
    Tokenizer(const Tokenizer&) = delete;

    /// Writes tokenizer.json, atomically.
    void save(const std::string& path) const;

    /// The ids of `text`. Added tokens in the text, special ones included, become their ids, as in the package. For
    /// large amounts of text, keep an Encoder. UserError for invalid UTF-8 under InvalidUtf8::error.
    std::vector<uint32_t> encode(std::string_view text, InvalidUtf8 policy = InvalidUtf8::error,
                                 const EncodeOptions& options = {}) const;

    /// Two texts, with the file's template for pairs.
    EncodedPair encode_pair(std::string_view first, std::string_view second) const;

    /// The text of `ids`, with or without special tokens. A byte-level tokenizer gives bytes that need not be UTF-8,
    /// because a token may be a part of a character; StreamDecoder gives text. UserError for an id without a token.
    std::string decode(std::span<const uint32_t> ids, bool skip_special = false) const;

    /// The bytes of a single token; empty when there is no token with this id.
    std::optional<std::string_view> token_bytes(uint32_t id) const;

    /// Highest id + 1.
    int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }

    /// The id of a token as spelt in tokenizer.json ("<|endoftext|>", "Ġthe").
    std::optional<uint32_t> token_id(std::string_view spelling) const;

    /// The spelling of a token in tokenizer.json; empty when there is no token with this id.
    std::optional<std::string_view> token_spelling(uint32_t id) const;

    /// The first token of the file's template: <s>, <|begin_of_text|>, [CLS]; empty when the template adds none.
    std::optional<uint32_t> begin_of_text_id() const;

    /// The token that ends a document: the first of <|endoftext|>, <|end_of_text|> and </s> that exists.
    std::optional<uint32_t> end_of_text_id() const;

    /// 32 hexadecimal digits over everything that determines the ids of a text, without the special tokens of the
    /// template. Does not depend on the layout of the file.
    const std::string& hash() const { return hash_; }

    /// The last place at which `text`, the beginning of a longer text, can be cut so that the ids of the two parts (the
    /// second with `continues`) are those of the whole; 0 when there is none. The place is between a character and
    /// following white space.
    size_t last_safe_cut(std::string_view text) const;

    const TokenizerSpec& spec() const { return spec_; }

  private:
    friend class Encoder;
    friend class StreamDecoder;
    struct Token {
        std::string spelling, bytes;
        bool special = false;
    };

    void add_token(const std::string& spelling, uint32_t id, bool special);
    void add_to_finders();
    bool finds_cuts() const;
    bool is_safe_cut(std::string_view text, size_t at) const;
    const Token& token(uint32_t id) const;

    TokenizerSpec spec_;
    bool plain_;          // is_plain_byte_level(spec_): uses a faster pipeline
    bool decodes_bytes_;  // the decoder only joins the tokens' bytes
    TextNormalizer normalizer_;
    WordModel model_;
    SplitPlan split_plan_;
    AddedTokenFinder raw_tokens_;         // matched in the unchanged text
    AddedTokenFinder normalized_tokens_;  // matched after the normalizers
    bool can_be_cut_ = false;
    std::vector<std::optional<Token>> tokens_;            // by id
    std::unordered_map<std::string_view, uint32_t> ids_;  // spelling, inside spec_ -> id
    std::string hash_;
};

/// Encodes with one tokenizer and caches the ids of words. Use one object per thread; the tokenizer must outlive it.
class Encoder {
  public:
    explicit Encoder(const Tokenizer& tokenizer, InvalidUtf8 policy = InvalidUtf8::error)
        : tokenizer_(tokenizer), policy_(policy), splitter_(tokenizer.split_plan_), words_(tokenizer.model_) {}

    /// Appends the ids of `text` to `out`.
    void encode(std::string_view text, std::vector<uint32_t>& out, const EncodeOptions& options = {});

  private:
    void encode_text(std::string_view text, std::vector<uint32_t>& out, const EncodeOptions& options);
    void encode_stretch(std::string_view text, bool at_start, bool continues, std::vector<uint32_t>& out);
    void encode_pieces(std::string_view text, bool at_start, std::vector<uint32_t>& out);
    void encode_plain(std::string_view text, std::vector<uint32_t>& out);
    void encode_word(std::string_view word, std::vector<uint32_t>& out);

    const Tokenizer& tokenizer_;
    InvalidUtf8 policy_;
    PieceSplitter splitter_;
    WordEncoder words_;
    WordCache cache_;
    std::string repaired_, prefixed_;  // scratch
    TextNormalizer::Storage normalized_;
};

/// Decodes ids one at a time. The texts that push() and finish() return together equal decode() of all ids, converted
/// to UTF-8 with U+FFFD for each maximal invalid part. The tokenizer must outlive it.
class StreamDecoder {
  public:
    explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false);
    StreamDecoder(const StreamDecoder&) = delete;

    /// The text that is decided after `id`: whole characters that no later token can change. UserError for an id
    /// without a token.
    std::string push(uint32_t id);

    /// The rest of the text; the next id begins another sequence.
    std::string finish();

  private:
    const Tokenizer& tokenizer_;
    bool skip_special_;
    std::string pending_;
    std::optional<TokenDecoder> decoder_;  // writes to pending_
};

}  // namespace ballast::data
