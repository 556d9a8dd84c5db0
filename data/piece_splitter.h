// Runs the pre-tokenizers of a pipeline: splits text into the pieces that the model encodes.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/foreign_pattern.h"
#include "data/tokenizer_steps.h"

namespace ballast::data {

/// The steps with compiled patterns. Immutable; all threads share it.
class SplitPlan {
  public:
    /// With `at_metaspace`, pieces are also cut before each U+2581 that follows another character (WordModel tells when
    /// this does not change ids).
    SplitPlan(std::vector<PreTokenizer> steps, bool at_metaspace);

    /// True when any text may be cut before a space that follows another character: splitting the two parts then gives
    /// the pieces of the whole. `metaspaces`: the normalizers replace spaces by U+2581.
    bool cuts_at_spaces(bool metaspaces) const;

  private:
    friend class PieceSplitter;
    std::vector<PreTokenizer> steps_;
    std::vector<std::optional<ForeignPattern>> patterns_;  // of Split steps
    bool at_metaspace_;
};

/// Splits with one plan. Keeps its scratch memory; use one object per thread.
class PieceSplitter {
  public:
    explicit PieceSplitter(const SplitPlan& plan);

    struct Range {
        size_t begin, end;
    };

    /// Splits `text`, valid UTF-8 and not empty. `at_start`: it is the beginning of the user's text. The pieces are
    /// ranges of text(); both are valid until the next call.
    std::span<const Range> split(std::string_view text, bool at_start);
    std::string_view text() const { return text_; }

  private:
    struct Stretch {
        size_t begin, end;
        bool match;
    };

    void run(const PreTokenizer& step, size_t index, bool at_start);
    void run(const ByteLevelStep& step, bool last);
    void run(const SplitStep& step, const std::optional<ForeignPattern::Matcher>& matcher);
    void run(const MetaspaceStep& step, bool at_start);

    template <class Find>
    void cut(SplitBehavior behavior, bool invert, Find&& find);
    template <class Accepts>
    void cut_at_characters(SplitBehavior behavior, Accepts&& accepts);
    template <class Rewrite>
    void rewrite(Rewrite&& rewrite);
    void add_pieces(SplitBehavior behavior);
    void cut_words();
    void cut_before_metaspaces();

    const SplitPlan& plan_;
    std::vector<std::optional<ForeignPattern::Matcher>> matchers_;
    std::string_view text_;
    std::vector<Range> pieces_, next_;
    std::vector<Stretch> stretches_;
    std::string storage_, rewritten_;
};

}  // namespace ballast::data
