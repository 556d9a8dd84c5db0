// The steps of a tokenizer's pipeline, as tokenizer.json lists them. A step is plain data; what runs it is in
// text_normalizer.h, piece_splitter.h and token_decoder.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace ballast::data {

// Normalizers: text to text, before anything is cut. ------------------------------------------------------------------

/// Normalisation form C.
struct NfcStep {};

/// Puts `prefix` before every stretch that is not empty.
struct PrependStep {
    std::string prefix;
};

/// Puts `content` for every `pattern`, a plain string. Decoders have it too, a token at a time.
struct ReplaceStep {
    std::string pattern, content;
};

/// BERT's cleaning, in this order: control characters, spaces around ideographs, accents, case.
struct BertNormalizerStep {
    bool clean_text = true, handle_chinese_chars = true;
    std::optional<bool> strip_accents;  ///< nothing: as lowercase
    bool lowercase = true;
};

using Normalizer = std::variant<NfcStep, PrependStep, ReplaceStep, BertNormalizerStep>;

// Pre-tokenizers: each cuts every piece of the one before.
// -------------------------------------------------------------

/// What becomes of the stretches that match.
enum class SplitBehavior : uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// A space before every piece, GPT-2's pattern, and bytes for characters: each if asked for, the last always.
struct ByteLevelStep {
    bool add_prefix_space = false, use_regex = true;
};

/// Cuts by a pattern: a plain string, or a regular expression in Oniguruma's syntax.
struct SplitStep {
    std::string pattern;
    bool is_regex = false;
    SplitBehavior behavior = SplitBehavior::isolated;
    bool invert = false;  ///< what does not match is what counts as matching
};

struct DigitsStep {
    bool individual_digits = false;
};

struct PunctuationStep {
    SplitBehavior behavior = SplitBehavior::isolated;
};

/// When Metaspace puts its letter before a piece that does not begin with it.
enum class PrependScheme : uint8_t { always, first, never };

/// Spaces become `replacement`, which also goes before pieces; cut before each of them if `split`. Decoders have it
/// too.
struct MetaspaceStep {
    std::string replacement = "\u2581";  ///< one character
    PrependScheme prepend_scheme = PrependScheme::always;
    bool split = true;
};

/// Cuts at white space, which goes, and around punctuation.
struct BertPreTokenizerStep {};

using PreTokenizer =
    std::variant<ByteLevelStep, SplitStep, DigitsStep, PunctuationStep, MetaspaceStep, BertPreTokenizerStep>;

// Post-processor: special tokens around the text.
// ----------------------------------------------------------------------

/// One place of a template: a text, or a special token (which may be several ids).
struct TemplateItem {
    enum class Kind : uint8_t { text_a, text_b, special } kind = Kind::text_a;
    std::string name;           ///< of a special token
    std::vector<uint32_t> ids;  ///< of a special token
    uint32_t type_id = 0;       ///< BERT's segment
};

struct Template {
    std::vector<TemplateItem> single, pair;  ///< of one text, of two; an empty list adds nothing to the texts
};

// Decoders: tokens to text.
// ---------------------------------------------------------------------------------------------

/// All tokens as the bytes their letters stand for, joined.
struct ByteLevelDecoderStep {};

/// A run of tokens <0x00> … <0xFF> as the text it is in UTF-8; one U+FFFD a byte if the run is not.
struct ByteFallbackStep {};

/// Joins all tokens.
struct FuseStep {};

/// Takes up to `start` times `content`, one character, from the front of every token.
struct StripStep {
    std::string content = " ";
    uint32_t start = 0;
};

/// A space before all tokens but the first and those that begin with `prefix`, which goes; `cleanup` undoes the spaces
/// that BERT's cutting left before punctuation and in contractions.
struct WordPieceDecoderStep {
    std::string prefix = "##";
    bool cleanup = true;
};

using TokenDecoderStep = std::variant<ByteLevelDecoderStep, ReplaceStep, ByteFallbackStep, FuseStep, StripStep,
                                      WordPieceDecoderStep, MetaspaceStep>;

}  // namespace ballast::data
