// The model of a tokenizer: converts one piece of text to ids, by byte-pair encoding or WordPiece.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/bpe.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {

/// SentencePiece's character for a space, U+2581.
inline constexpr std::string_view kMetaspace = "\u2581";

/// The data of a model. Immutable; all threads share it. Refers to the spec's strings, which must outlive it.
class WordModel {
  public:
    explicit WordModel(const TokenizerSpec& spec);

    /// True when no token made by merging contains U+2581 behind another character. Then words end before each U+2581
    /// that follows another character, and cutting there changes no ids. Otherwise texts of Llama's kind are one word.
    bool ends_words_at_metaspace() const { return ends_words_at_metaspace_; }

  private:
    friend class WordEncoder;
    enum class Kind : uint8_t { bytes, letters_of_bytes, characters, word_piece };

    std::optional<uint32_t> find(std::string_view spelling) const;
    bool finds_words_at_metaspace(const TokenizerSpec& spec) const;

    Kind kind_;
    bool ignore_merges_, fuse_unk_;
    MergeTable merges_;
    std::array<bool, 256> has_byte_{};
    bool misses_bytes_ = false;        // of bytes that occur in UTF-8, some have no token
    IntegerMap<uint32_t> characters_;  // code point -> id
    std::unordered_map<std::string_view, uint32_t> vocabulary_;
    std::optional<uint32_t> unk_;
    bool byte_fallback_;
    std::string continuing_prefix_;
    size_t max_word_characters_;
    bool ends_words_at_metaspace_ = false;
};

/// Encodes pieces with one model. Keeps its scratch memory; use one object per thread.
class WordEncoder {
  public:
    explicit WordEncoder(const WordModel& model) : model_(model), merger_(model.merges_) {}

    /// Appends the ids of `word`, valid UTF-8 (any bytes for a byte-level model), to `out`.
    void encode(std::string_view word, std::vector<uint32_t>& out);

  private:
    void encode_bytes(std::string_view bytes, std::vector<uint32_t>& out);
    void push_unknown(bool after_unknown);
    void encode_characters(std::string_view word, std::vector<uint32_t>& out);
    void encode_word_piece(std::string_view word, std::vector<uint32_t>& out);
    bool append_pieces(std::string_view word, std::vector<uint32_t>& out);

    const WordModel& model_;
    WordMerger merger_;
    std::vector<uint32_t> symbols_;
    std::string spelling_;
};

}  // namespace ballast::data
