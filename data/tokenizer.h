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

/// How one text is encoded.
struct EncodeOptions {
    bool add_special = false;  ///< with what the file's template puts around a text: <s>, [CLS] … [SEP]
    bool continues = false;    ///< the text goes on where another was cut, at a place of last_safe_cut()
    int64_t first_offset = 0;  ///< where byte offsets in errors count from
};

/// Two texts in one sequence, as encoders for pairs of sentences read them.
struct EncodedPair {
    std::vector<uint32_t> ids, type_ids;  ///< type: the segment, 0 or 1
};

/// Immutable once made; threads may share it.
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

    /// The ids of `text`. Added tokens in it, special ones too, become their ids, as in the package. For much text,
    /// keep an Encoder. UserError for invalid UTF-8 under InvalidUtf8::error.
    std::vector<uint32_t> encode(std::string_view text, InvalidUtf8 policy = InvalidUtf8::error,
                                 const EncodeOptions& options = {}) const;

    /// Two texts by the file's template for pairs.
    EncodedPair encode_pair(std::string_view first, std::string_view second) const;

    /// What `ids` say, with or without special tokens. A byte-level tokenizer gives bytes that are not necessarily
    /// UTF-8, as a token may be part of a character; StreamDecoder gives text. UserError for an id that stands for no
    /// token.
    std::string decode(std::span<const uint32_t> ids, bool skip_special = false) const;

    /// The bytes of one token by itself, or nothing when there is none with this id.
    std::optional<std::string_view> token_bytes(uint32_t id) const;

    /// Highest id + 1.
    int64_t vocab_size() const { return static_cast<int64_t>(tokens_.size()); }

    /// The id of a token as spelt in tokenizer.json ("<|endoftext|>", "Ġthe").
    std::optional<uint32_t> token_id(std::string_view spelling) const;

    /// The spelling of a token in tokenizer.json, or nothing when there is none with this id.
    std::optional<std::string_view> token_spelling(uint32_t id) const;

    /// What the file's template puts first: <s>, <|begin_of_text|>, [CLS]; nothing where a text begins as it is.
    std::optional<uint32_t> begin_of_text_id() const;

    /// What ends a document: the first of <|endoftext|>, <|end_of_text|> and </s> that there is.
    std::optional<uint32_t> end_of_text_id() const;

    /// 32 hexadecimal digits over all that decides the ids of text, special tokens around it left aside; the same
    /// however the file is laid out.
    const std::string& hash() const { return hash_; }

    /// The last place at which `text`, the beginning of something longer, can be cut so that the ids of the two parts
    /// (the second with `continues`) are those of the whole; 0 when there is none. It lies between a character and the
    /// white space after it.
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
    bool plain_;          // is_plain_byte_level(spec_): the pipeline has a way of its own, which is fast
    bool decodes_bytes_;  // the decoder only joins the tokens' bytes
    TextNormalizer normalizer_;
    WordModel model_;
    SplitPlan split_plan_;
    AddedTokenFinder raw_tokens_;         // matched in the text as it stands
    AddedTokenFinder normalized_tokens_;  // matched after the normalizers
    bool can_be_cut_ = false;
    std::vector<std::optional<Token>> tokens_;            // by id
    std::unordered_map<std::string_view, uint32_t> ids_;  // spelling, inside spec_ -> id
    std::string hash_;
};

/// Encodes with one tokenizer, remembering the words it has met. One object a thread; the tokenizer must outlive it.
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

/// Decodes ids one at a time. What push() and finish() return, joined, is decode() of all ids, made UTF-8 with U+FFFD
/// for each maximal part of it that is none. The tokenizer must outlive it.
class StreamDecoder {
  public:
    explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false);
    StreamDecoder(const StreamDecoder&) = delete;

    /// The text that `id` decides: whole characters, nothing that a later token could change. UserError for an id that
    /// stands for no token.
    std::string push(uint32_t id);

    /// The rest; the next id begins another sequence.
    std::string finish();

  private:
    const Tokenizer& tokenizer_;
    bool skip_special_;
    std::string pending_;
    std::optional<TokenDecoder> decoder_;  // writes to pending_
};

}  // namespace ballast::data
