// What a tokenizer.json says, as far as Ballast understands it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ballast::data {

/// A token matched in the text before byte-pair encoding.
struct AddedToken {
    uint32_t id = 0;
    std::string content;
    bool special = false;     ///< a control token; decoders may hide it
    bool normalized = false;  ///< matched after NFC rather than in the text as it stands
};

/// Two neighbours become one token.
struct MergeRule {
    uint32_t left = 0, right = 0, joined = 0;
};

/// A byte-level BPE tokenizer. Ids need not be dense; those of `added_tokens` may repeat an entry of the vocabulary.
struct TokenizerSpec {
    bool nfc = false;               ///< normalise to NFC first
    bool add_prefix_space = false;  ///< every stretch between added tokens begins with a space
    bool split_words = true;        ///< "use_regex": the GPT-2 pattern; otherwise a stretch is one word
    bool ignore_merges = false;     ///< a word that is in the vocabulary is that token, whatever the merges say
    std::vector<std::pair<std::string, uint32_t>> vocabulary;  ///< (byte-level spelling, id), ascending ids
    std::vector<MergeRule> merges;          ///< by rank; of equal pairs the last counts
    std::vector<AddedToken> added_tokens;   ///< ascending ids
};

/// Ids stop here, so that a lying file cannot ask for gigabytes.
inline constexpr uint32_t kMaxTokenId = (1u << 20) - 1;

/// Reads the text of a Hugging Face tokenizer.json; `origin` names it in messages. Merges may be "a b" or ["a", "b"].
/// UserError, naming the field, for broken JSON, contradictions, and any setting that would make other tokens than
/// ours: truncation, padding, another normaliser, pre-tokeniser, post-processor or model, tokens that swallow spaces.
TokenizerSpec parse_tokenizer_json(std::string_view text, const std::string& origin);

/// The same as text, in the layout of GPT-NeoX's 20B_tokenizer.json, which every version of the package reads. (Merges
/// of tokens that hold a space are pairs, which versions before 0.20.1 cannot read; nothing else could say them.)
std::string to_tokenizer_json(const TokenizerSpec& spec);

/// Gives every id below the highest a token, "<|unused_N|>" where there is none. The `tokenizers` package numbers added
/// tokens by how many tokens there are, whatever ids their file names, so that after a hole it gives other ids than ours.
void fill_holes(TokenizerSpec& spec);

}  // namespace ballast::data
