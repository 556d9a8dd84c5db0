// The contents of a tokenizer file, as far as Ballast supports them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/tokenizer_steps.h"

namespace ballast::data {

/// A token that is matched in the text before it is split.
struct AddedToken {
    uint32_t id = 0;
    std::string content;
    bool special = false;  ///< a control token; decoders may leave it out
    bool normalized =
        false;            ///< matched after the normalizers, its content normalised too, rather than in the raw text
    bool lstrip = false;  ///< includes the white space before it
    bool rstrip = false;  ///< includes the white space after it
    bool single_word = false;  ///< matched only where no letter, digit or underscore (\w) is its neighbour
};

/// Two neighbouring tokens that become one.
struct MergeRule {
    uint32_t left = 0, right = 0, joined = 0;
};

enum class TokenModel : uint8_t { bpe, word_piece };

/// A tokenizer: added tokens, normalizers, pre-tokenizers, model, post-processor, decoder. A default-constructed one
/// has GPT-NeoX's steps without NFC. Ids need not be dense; those of `added_tokens` may repeat entries of the
/// vocabulary.
struct TokenizerSpec {
    std::vector<AddedToken> added_tokens;  ///< ascending ids
    std::vector<Normalizer> normalizers;
    std::vector<PreTokenizer> pre_tokenizers{ByteLevelStep{}};

    TokenModel model = TokenModel::bpe;
    std::vector<std::pair<std::string, uint32_t>> vocabulary;  ///< (spelling, id), ascending ids
    std::vector<MergeRule> merges;                             ///< for bpe, by rank; of equal pairs the last one counts
    bool ignore_merges = false;            ///< a word in the vocabulary becomes that token, whatever the merges
    bool byte_fallback = false;            ///< a character without a token becomes its bytes <0x00> … <0xFF>
    bool fuse_unk = false;                 ///< adjacent unknown characters become one unk_token
    std::string unk_token;                 ///< empty: unknown text is dropped
    std::string continuing_prefix = "##";  ///< of word_piece: before what does not begin a word
    uint32_t max_word_characters = 100;    ///< for word_piece: longer words become unk_token

    Template post_processor;
    std::vector<TokenDecoderStep> decoder{ByteLevelDecoderStep{}};
};

/// The largest allowed id, so that a wrong file cannot ask for gigabytes.
inline constexpr uint32_t kMaxTokenId = (1u << 20) - 1;

/// The ByteLevel step among `steps`; null when there is none. With such a step, the model works on bytes.
const ByteLevelStep* byte_level_step(const std::vector<PreTokenizer>& steps);

/// True when every stretch between added tokens gets a space in front ("add_prefix_space").
bool adds_prefix_space(const TokenizerSpec& spec);

/// True for GPT-NeoX's pipeline and similar ones: at most NFC, one ByteLevel step, byte-level BPE. Few settings
/// determine the ids of such a file, and its hash (Tokenizer::hash) covers only these.
bool is_plain_byte_level(const TokenizerSpec& spec);

/// Reads the text of a Hugging Face tokenizer.json; `origin` names it in messages. Merges may be "a b" or ["a", "b"].
/// UserError, naming the field, for invalid JSON, contradictions, and any setting that would give other tokens than
/// ours. For an unsupported step the message also lists the supported ones.
TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& origin);

/// The opposite: a spec as text, in the layout of GPT-NeoX's 20B_tokenizer.json, which every version of the package
/// reads. (Merges of tokens that contain a space are written as pairs, the only form for them; versions before 0.20.1
/// cannot read it.)
std::string to_tokenizer_json(const TokenizerSpec& spec);

/// Only the steps and settings, as canonical text: equal for specs that split and number text in the same way.
std::string pipeline_text(const TokenizerSpec& spec);

/// Reads a SentencePiece tokenizer.model of type BPE, as used by Llama 2 and Vicuna, as the tokenizer.json with the
/// same ids (except that control tokens are matched in the text). UserError for damage and unsupported features.
TokenizerSpec parse_sentencepiece_model(std::string_view bytes, const std::string& origin);

/// Gives every id below the highest one a token, "<|unused_N|>" where there is none. The `tokenizers` package numbers
/// added tokens by the count of tokens, whatever ids the file gives. So after a gap its ids would differ from ours.
void fill_holes(TokenizerSpec& spec);

}  // namespace ballast::data
