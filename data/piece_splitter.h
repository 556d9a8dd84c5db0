// Runs the pre-tokenizers of a pipeline: text to the pieces that the model encodes.
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

/// The steps with their patterns compiled; immutable, for all threads.
class SplitPlan {
  public:
    /// With `at_metaspace`, pieces are also cut before each U+2581 that follows another character (WordModel says when
    /// that changes no ids).
    SplitPlan(std::vector<PreTokenizer> steps, bool at_metaspace);

    /// Whether every text may be cut before a space that follows something else, and the parts split by themselves give
    /// the pieces of the whole. `metaspaces`: the normalizers make U+2581 of spaces.
    bool cuts_at_spaces(bool metaspaces) const;

  private:
    friend class PieceSplitter;
    std::vector<PreTokenizer> steps_;
    std::vector<std::optional<ForeignPattern>> patterns_;  // of Split steps
    bool at_metaspace_;
};

/// Splits with one plan. Keeps its scratch memory; one object a thread.
class PieceSplitter {
  public:
    explicit PieceSplitter(const SplitPlan& plan);

    struct Range {
        size_t begin, end;
    };

    /// Splits `text`, valid UTF-8, not empty; `at_start`: it begins the user's text. The pieces are ranges of text();
    /// both stay until the next call.
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
