#include "data/piece_splitter.h"

#include <algorithm>

#include "data/byte_level.h"
#include "data/pre_tokenizer.h"
#include "data/unicode_classes.h"
#include "data/utf8.h"
#include "data/word_model.h"

namespace ballast::data {
namespace {

/// Regular expressions that are known to end a match at every space behind something else: Llama 3's and Qwen 2's.
constexpr std::string_view kPatternsThatCutAtSpaces[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
};

bool cuts_at_spaces(const PreTokenizer& step) {
    if (const auto* bytes = std::get_if<ByteLevelStep>(&step)) return bytes->use_regex;
    if (std::holds_alternative<BertPreTokenizerStep>(step)) return true;
    const auto* split = std::get_if<SplitStep>(&step);
    if (split == nullptr || !split->is_regex || split->invert || split->behavior != SplitBehavior::isolated)
        return false;
    return std::count(std::begin(kPatternsThatCutAtSpaces), std::end(kPatternsThatCutAtSpaces), split->pattern) > 0;
}

/// Whether a step decides by the class of a character alone, so that what it does to a part it does to the whole.
bool looks_at_characters_alone(const PreTokenizer& step) {
    return std::holds_alternative<DigitsStep>(step) || std::holds_alternative<PunctuationStep>(step);
}

}  // namespace

SplitPlan::SplitPlan(std::vector<PreTokenizer> steps, bool at_metaspace)
    : steps_(std::move(steps)), at_metaspace_(at_metaspace) {
    for (const PreTokenizer& step : steps_) {
        const auto* split = std::get_if<SplitStep>(&step);
        patterns_.push_back(split && split->is_regex ? std::optional<ForeignPattern>(split->pattern) : std::nullopt);
    }
}

bool SplitPlan::cuts_at_spaces(bool metaspaces) const {
    for (const PreTokenizer& step : steps_) {
        if (const auto* metaspace = std::get_if<MetaspaceStep>(&step)) {
            metaspaces = metaspaces || metaspace->replacement == kMetaspace;
            if (metaspace->split && metaspaces) return true;
        } else if (!metaspaces && data::cuts_at_spaces(step)) {
            return true;
        } else if (!looks_at_characters_alone(step)) {
            return false;
        }
    }
    return metaspaces && at_metaspace_;
}

PieceSplitter::PieceSplitter(const SplitPlan& plan) : plan_(plan) {
    for (const auto& pattern : plan.patterns_)
        matchers_.push_back(pattern ? std::optional<ForeignPattern::Matcher>(*pattern) : std::nullopt);
}

std::span<const PieceSplitter::Range> PieceSplitter::split(std::string_view text, bool at_start) {
    text_ = text;
    pieces_.assign(1, {0, text.size()});
    for (size_t i = 0; i < plan_.steps_.size(); ++i) run(plan_.steps_[i], i, at_start);
    if (plan_.at_metaspace_) cut_before_metaspaces();
    return pieces_;
}

void PieceSplitter::run(const PreTokenizer& step, size_t index, bool at_start) {
    if (const auto* bytes = std::get_if<ByteLevelStep>(&step)) {
        run(*bytes, index + 1 == plan_.steps_.size());
    } else if (const auto* split = std::get_if<SplitStep>(&step)) {
        run(*split, matchers_[index]);
    } else if (const auto* digits = std::get_if<DigitsStep>(&step)) {
        cut_at_characters(digits->individual_digits ? SplitBehavior::isolated : SplitBehavior::contiguous, is_numeric);
    } else if (const auto* punctuation = std::get_if<PunctuationStep>(&step)) {
        cut_at_characters(punctuation->behavior, is_punctuation);
    } else if (const auto* metaspace = std::get_if<MetaspaceStep>(&step)) {
        run(*metaspace, at_start);
    } else {
        cut_at_characters(SplitBehavior::removed, is_white_space);
        cut_at_characters(SplitBehavior::isolated, is_punctuation);
    }
}

/// `rewrite` appends each piece in its new form to rewritten_.
template <class Rewrite>
void PieceSplitter::rewrite(Rewrite&& rewrite) {
    rewritten_.clear();
    for (Range& piece : pieces_) {
        const size_t begin = rewritten_.size();
        rewrite(text_.substr(piece.begin, piece.end - piece.begin), piece.begin);
        piece = {begin, rewritten_.size()};
    }
    storage_.swap(rewritten_);
    text_ = storage_;
}

/// `find(from, end)` gives the next stretch that matches, in text_ at or after `from`; an empty one: none.
template <class Find>
void PieceSplitter::cut(SplitBehavior behavior, bool invert, Find&& find) {
    next_.clear();
    for (const Range& piece : pieces_) {
        stretches_.clear();
        for (size_t at = piece.begin; at < piece.end;) {
            const Range match = find(at, piece);
            const size_t begin = match.begin == match.end ? piece.end : match.begin;
            if (at < begin) stretches_.push_back({at, begin, invert});
            if (begin == piece.end) break;
            stretches_.push_back({match.begin, match.end, !invert});
            at = match.end;
        }
        add_pieces(behavior);
    }
    pieces_.swap(next_);
}

template <class Accepts>
void PieceSplitter::cut_at_characters(SplitBehavior behavior, Accepts&& accepts) {
    cut(behavior, false, [&](size_t from, const Range& piece) -> Range {
        for (size_t at = from; at < piece.end;) {
            const DecodedCharacter c = decode_valid_utf8(text_.data() + at);
            if (accepts(c.code_point)) return {at, at + c.length};
            at += c.length;
        }
        return {piece.end, piece.end};
    });
}

/// The stretches of one piece as pieces.
void PieceSplitter::add_pieces(SplitBehavior behavior) {
    const size_t before = next_.size();
    bool previous = false;
    const bool backwards = behavior == SplitBehavior::merged_with_next;
    if (backwards) std::reverse(stretches_.begin(), stretches_.end());
    for (const Stretch& stretch : stretches_) {
        const bool joins =
            (behavior == SplitBehavior::contiguous && stretch.match == previous) ||
            ((behavior == SplitBehavior::merged_with_previous || backwards) && stretch.match && !previous);
        previous = stretch.match;
        if (behavior == SplitBehavior::removed && stretch.match) continue;
        if (joins && next_.size() > before) {
            backwards ? next_.back().begin = stretch.begin : next_.back().end = stretch.end;
        } else {
            next_.push_back({stretch.begin, stretch.end});
        }
    }
    if (backwards) std::reverse(next_.begin() + static_cast<std::ptrdiff_t>(before), next_.end());
}

void PieceSplitter::run(const ByteLevelStep& step, bool last) {
    if (step.add_prefix_space) {
        rewrite([&](std::string_view piece, size_t) {
            if (piece[0] != ' ') rewritten_ += ' ';
            rewritten_ += piece;
        });
    }
    if (step.use_regex) cut_words();
    // Behind the last step the model takes bytes as they are.
    if (!last) rewrite([&](std::string_view piece, size_t) { rewritten_ += to_byte_level(piece); });
}

void PieceSplitter::cut_words() {
    next_.clear();
    for (const Range& piece : pieces_) {
        const std::string_view text = text_.substr(0, piece.end);
        for (size_t at = piece.begin; at < piece.end;) {
            const size_t end = next_word_end(text, at);
            next_.push_back({at, end});
            at = end;
        }
    }
    pieces_.swap(next_);
}

void PieceSplitter::run(const SplitStep& step, const std::optional<ForeignPattern::Matcher>& matcher) {
    cut(step.behavior, step.invert, [&](size_t from, const Range& piece) -> Range {
        const std::string_view subject = text_.substr(piece.begin, piece.end - piece.begin);
        const Range none{piece.end, piece.end};
        if (matcher) {
            const auto match = matcher->find(subject, from - piece.begin);
            return match ? Range{piece.begin + match->begin, piece.begin + match->end} : none;
        }
        const size_t found = subject.find(step.pattern, from - piece.begin);
        if (found == std::string_view::npos) return none;
        return {piece.begin + found, piece.begin + found + step.pattern.size()};
    });
}

void PieceSplitter::run(const MetaspaceStep& step, bool at_start) {
    const std::string_view letter = step.replacement;
    rewrite([&](std::string_view piece, size_t begin) {
        const bool wanted = step.prepend_scheme == PrependScheme::always ||
                            (step.prepend_scheme == PrependScheme::first && at_start && begin == 0);
        if (wanted && piece[0] != ' ' && !piece.starts_with(letter)) rewritten_ += letter;
        for (char byte : piece) byte == ' ' ? rewritten_ += letter : rewritten_ += byte;
    });
    if (!step.split) return;
    const char32_t c = decode_valid_utf8(letter.data()).code_point;
    cut_at_characters(SplitBehavior::merged_with_next, [c](char32_t other) { return other == c; });
}

void PieceSplitter::cut_before_metaspaces() {
    next_.clear();
    for (const Range& piece : pieces_) {
        size_t begin = piece.begin;
        const std::string_view text = text_.substr(0, piece.end);
        for (size_t at = text.find(kMetaspace, begin); at < piece.end;
             at = text.find(kMetaspace, at + kMetaspace.size())) {
            if (at == begin || text.substr(begin, at - begin).ends_with(kMetaspace)) continue;
            next_.push_back({begin, at});
            begin = at;
        }
        next_.push_back({begin, piece.end});
    }
    pieces_.swap(next_);
}

}  // namespace ballast::data
