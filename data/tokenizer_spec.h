// What a tokenizer's file says, as far as Ballast understands it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// A token matched in the text before anything is cut.
struct AddedToken {
    uint32_t id = 0;
    std::string content;
    bool special = false;  ///< a control token; decoders may leave it out
    bool normalized =
        false;            ///< matched after the normalizers, its content normalised too, rather than in the raw text
    bool lstrip = false;  ///< swallows the white space before it
    bool rstrip = false;  ///< and after it
    bool single_word = false;  ///< only where no letter, digit or underscore (\w) stands beside it
};

/// Two neighbours become one token.
struct MergeRule {
    uint32_t left = 0, right = 0, joined = 0;
};

enum class TokenModel : uint8_t { bpe, word_piece };

/// A tokenizer: added tokens, normalizers, pre-tokenizers, model, post-processor, decoder. A fresh one has GPT-NeoX's
/// steps without NFC. Ids need not be dense; those of `added_tokens` may repeat an entry of the vocabulary.
struct TokenizerSpec {
    std::vector<AddedToken> added_tokens;  ///< ascending ids
    std::vector<Normalizer> normalizers;
    std::vector<PreTokenizer> pre_tokenizers{ByteLevelStep{}};

    TokenModel model = TokenModel::bpe;
    std::vector<std::pair<std::string, uint32_t>> vocabulary;  ///< (spelling, id), ascending ids
    std::vector<MergeRule> merges;                             ///< of bpe, by rank; of equal pairs the last counts
    bool ignore_merges = false;            ///< a word that is in the vocabulary is that token, whatever the merges say
    bool byte_fallback = false;            ///< a character without a token is its bytes <0x00> … <0xFF>
    bool fuse_unk = false;                 ///< neighbouring unknown characters are one unk_token
    std::string unk_token;                 ///< empty: what is unknown vanishes
    std::string continuing_prefix = "##";  ///< of word_piece: before what does not begin a word
    uint32_t max_word_characters = 100;    ///< of word_piece: longer words are unk_token

    Template post_processor;
    std::vector<TokenDecoderStep> decoder{ByteLevelDecoderStep{}};
};

/// Ids stop here, so that a lying file cannot ask for gigabytes.
inline constexpr uint32_t kMaxTokenId = (1u << 20) - 1;

/// The ByteLevel step among `steps`; null when there is none. With one, the model works on bytes.
const ByteLevelStep* byte_level_step(const std::vector<PreTokenizer>& steps);

/// Whether every stretch between added tokens begins with a space ("add_prefix_space").
bool adds_prefix_space(const TokenizerSpec& spec);

/// GPT-NeoX's pipeline and the like: at most NFC, one ByteLevel step, byte-level BPE. The tokens such a file gives were
/// decided by so little that its hash (Tokenizer::hash) keeps to it.
bool is_plain_byte_level(const TokenizerSpec& spec);

/// Reads the text of a Hugging Face tokenizer.json; `origin` names it in messages. Merges may be "a b" or ["a", "b"].
/// UserError, naming the field, for broken JSON, contradictions, and any setting that would make other tokens than
/// ours; a step that we do not have is named together with those we have.
TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& origin);

/// The same as text, in the layout of GPT-NeoX's 20B_tokenizer.json, which every version of the package reads. (Merges
/// of tokens that hold a space are pairs, which versions before 0.20.1 cannot read; nothing else could say them.)
std::string to_tokenizer_json(const TokenizerSpec& spec);

/// The steps and settings alone as canonical text: equal for specs that cut and number text alike.
std::string pipeline_text(const TokenizerSpec& spec);

/// Reads a SentencePiece tokenizer.model of type BPE, as Llama 2 and Vicuna have it, as the tokenizer.json that gives
/// the same ids (but control tokens are looked for in the text). UserError for damage and what we do not have.
TokenizerSpec parse_sentencepiece_model(std::string_view bytes, const std::string& origin);

/// Gives every id below the highest a token, "<|unused_N|>" where there is none. The `tokenizers` package numbers added
/// tokens by how many tokens there are, whatever ids their file names, so that after a hole it gives other ids than
/// ours.
void fill_holes(TokenizerSpec& spec);

}  // namespace ballast::data
