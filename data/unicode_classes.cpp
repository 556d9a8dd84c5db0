#include "data/unicode_classes.h"

#include <algorithm>
#include <iterator>

#include "data/unicode.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

struct CaseRun {
    char32_t first, last;
    uint32_t step;
    int32_t distance;
};

struct Decomposition {
    char32_t from, to[3];  // unused ones are 0
};

#include "data/unicode_classes.inc"

bool contains(std::span<const CodePointRange> ranges, char32_t c) {
    const auto after = std::upper_bound(ranges.begin(), ranges.end(), c,
                                        [](char32_t x, const CodePointRange& r) { return x < r.first; });
    return after != ranges.begin() && c <= std::prev(after)->last;
}

constexpr char32_t kHangulBase = 0xAC00, kHangulEnd = 0xD7A4, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kNumVowels = 21, kNumTails = 28;

/// A Hangul syllable as its two or three letters (Unicode 15, section 3.12).
void append_hangul(std::string& out, char32_t syllable) {
    const char32_t index = syllable - kHangulBase, tail = index % kNumTails;
    append_utf8(out, kLeads + index / (kNumVowels * kNumTails));
    append_utf8(out, kVowels + index / kNumTails % kNumVowels);
    if (tail != 0) append_utf8(out, kTails + tail);
}

}  // namespace

bool is_punctuation(char32_t c) { return contains(kPunctuationRanges, c); }
bool is_numeric(char32_t c) { return contains(kNumericRanges, c); }
bool is_white_space(char32_t c) { return character_class(c) == CharacterClass::space; }
bool is_word(char32_t c) { return contains(kWordRanges, c); }
bool is_bert_removed(char32_t c) { return contains(kBertRemovedRanges, c); }
bool is_bert_space(char32_t c) { return contains(kBertSpaceRanges, c); }
bool is_bert_spaced(char32_t c) { return contains(kBertSpacedRanges, c); }
bool is_bert_stripped(char32_t c) { return contains(kBertStrippedRanges, c); }

void append_lowercase(std::string& out, char32_t c) {
    if (c == 0x130) return append_utf8(out, U'i'), append_utf8(out, 0x307);
    const auto after = std::upper_bound(std::begin(kLowercaseRuns), std::end(kLowercaseRuns), c,
                                        [](char32_t x, const CaseRun& run) { return x < run.first; });
    if (after != std::begin(kLowercaseRuns)) {
        const CaseRun& run = *std::prev(after);
        if (c <= run.last && (c - run.first) % run.step == 0)
            c = static_cast<char32_t>(static_cast<int32_t>(c) + run.distance);
    }
    append_utf8(out, c);
}

void append_without_accents(std::string& out, char32_t c) {
    if (c >= kHangulBase && c < kHangulEnd) return append_hangul(out, c);
    if (is_bert_stripped(c)) return;
    const auto found = std::lower_bound(std::begin(kStripped), std::end(kStripped), c,
                                        [](const Decomposition& d, char32_t x) { return d.from < x; });
    if (found == std::end(kStripped) || found->from != c) return append_utf8(out, c);
    for (char32_t part : found->to)
        if (part != 0) append_utf8(out, part);
}

}  // namespace ballast::data
