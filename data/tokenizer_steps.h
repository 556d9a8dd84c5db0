// The steps of a tokenizer's pipeline, as listed in tokenizer.json. A step is plain data; text_normalizer.h,
// piece_splitter.h and token_decoder.h run the steps.
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

/// Inserts `prefix` before every non-empty stretch.
struct PrependStep {
    std::string prefix;
};

/// Replaces every `pattern`, a plain string, by `content`. Also a decoder step, applied to one token at a time.
struct ReplaceStep {
    std::string pattern, content;
};

/// BERT's cleaning, in this order: control characters, spaces around ideographs, accents, case.
struct BertNormalizerStep {
    bool clean_text = true, handle_chinese_chars = true;
    std::optional<bool> strip_accents;  ///< absent: as lowercase
    bool lowercase = true;
};

using Normalizer = std::variant<NfcStep, PrependStep, ReplaceStep, BertNormalizerStep>;

// Pre-tokenizers: each cuts every piece of the one before.
// -------------------------------------------------------------

/// What to do with the matches of a split pattern.
enum class SplitBehavior : uint8_t { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// Adds a space before every piece and splits by GPT-2's pattern, each if enabled; then replaces bytes by characters.
struct ByteLevelStep {
    bool add_prefix_space = false, use_regex = true;
};

/// Splits by a pattern: a plain string, or a regular expression in Oniguruma's syntax.
struct SplitStep {
    std::string pattern;
    bool is_regex = false;
    SplitBehavior behavior = SplitBehavior::isolated;
    bool invert = false;  ///< the text between matches counts as matching
};

struct DigitsStep {
    bool individual_digits = false;
};

struct PunctuationStep {
    SplitBehavior behavior = SplitBehavior::isolated;
};

/// When Metaspace inserts its character before a piece that does not begin with it.
enum class PrependScheme : uint8_t { always, first, never };

/// Replaces spaces by `replacement`, and inserts it before pieces; splits before each of them if `split`. Also a
/// decoder step.
struct MetaspaceStep {
    std::string replacement = "\u2581";  ///< one character
    PrependScheme prepend_scheme = PrependScheme::always;
    bool split = true;
};

/// Splits at white space, which is dropped, and around punctuation.
struct BertPreTokenizerStep {};

using PreTokenizer =
    std::variant<ByteLevelStep, SplitStep, DigitsStep, PunctuationStep, MetaspaceStep, BertPreTokenizerStep>;

// Post-processor: special tokens around the text.
// ----------------------------------------------------------------------

/// One item of a template: a text, or a special token (which may be several ids).
struct TemplateItem {
    enum class Kind : uint8_t { text_a, text_b, special } kind = Kind::text_a;
    std::string name;           ///< of a special token
    std::vector<uint32_t> ids;  ///< of a special token
    uint32_t type_id = 0;       ///< BERT's segment
};

struct Template {
    std::vector<TemplateItem> single, pair;  ///< for one text, for two; an empty list adds nothing to the texts
};

// Decoders: tokens to text.
// ---------------------------------------------------------------------------------------------

/// The bytes of all tokens' characters, joined.
struct ByteLevelDecoderStep {};

/// A run of tokens <0x00> … <0xFF> becomes its text in UTF-8; when the run is not valid, one U+FFFD per byte.
struct ByteFallbackStep {};

/// Joins all tokens.
struct FuseStep {};

/// Removes up to `start` times `content`, one character, from the front of every token.
struct StripStep {
    std::string content = " ";
    uint32_t start = 0;
};

/// A space before all tokens but the first and those that begin with `prefix`, which is removed. `cleanup` removes the
/// spaces that BERT's splitting left before punctuation and in contractions.
struct WordPieceDecoderStep {
    std::string prefix = "##";
    bool cleanup = true;
};

using TokenDecoderStep = std::variant<ByteLevelDecoderStep, ReplaceStep, ByteFallbackStep, FuseStep, StripStep,
                                      WordPieceDecoderStep, MetaspaceStep>;

}  // namespace ballast::data
