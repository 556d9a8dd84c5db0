#include "data/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "data/unicode_classes.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

#include "data/unicode_tables.inc"

constexpr size_t kCodePoints = 0x110000;
constexpr uint8_t kClassMask = 3;
constexpr uint8_t kNfcActive = 4;

/// One byte a code point, so that a look-up is a load; built once from the ranges (1.1 MB, hot pages only).
std::vector<uint8_t> build_properties() {
    std::vector<uint8_t> properties(kCodePoints, static_cast<uint8_t>(CharacterClass::other));
    const auto mark = [&properties](std::span<const CodePointRange> ranges, uint8_t bits) {
        for (const CodePointRange& range : ranges)
            for (char32_t c = range.first; c <= range.last; ++c) properties[c] |= bits;
    };
    mark(kLetterRanges, static_cast<uint8_t>(CharacterClass::letter));
    mark(kNumberRanges, static_cast<uint8_t>(CharacterClass::number));
    mark(kSpaceRanges, static_cast<uint8_t>(CharacterClass::space));
    mark(kNfcActiveRanges, kNfcActive);
    return properties;
}

const uint8_t* properties() {
    static const std::vector<uint8_t> table = build_properties();
    return table.data();
}

/// Whether an inert character may be handed to utf8proc as the base of what follows it. Not when utf8proc, being of a
/// later Unicode version, would move it (a new combining mark) or compose it (the two Todhri letters of Unicode 16).
bool may_be_base(char32_t c) {
    return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class == 0 && c != 0x105D2 &&
           c != 0x105DA;
}

void append_nfc(std::string& out, std::string_view run) {
    utf8proc_uint8_t* normal = nullptr;
    const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(run.data()),
                                   static_cast<utf8proc_ssize_t>(run.size()), &normal,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    require(size >= 0, "NFC of invalid UTF-8");
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normal, &std::free);
    out.append(reinterpret_cast<const char*>(normal), static_cast<size_t>(size));
}

constexpr size_t kNone = std::string_view::npos;

/// The next stretch that NFC may change: an active character, those after it, and the base before it.
struct ActiveRun {
    size_t begin = kNone, end = kNone;
};

ActiveRun next_active_run(std::string_view text, size_t from) {
    const uint8_t* table = properties();
    size_t base = kNone;  // the inert character just before `at`, if it may take part
    for (size_t at = from; at < text.size();) {
        // Everything below U+0300 (lead bytes below 0xCC) is inert.
        if (static_cast<uint8_t>(text[at]) < 0xCC) {
            base = at++;
            while (at < text.size() && is_utf8_continuation(text[at])) ++at;
            continue;
        }
        const DecodedCharacter c = decode_valid_utf8(text.data() + at);
        if (!(table[c.code_point] & kNfcActive)) {
            base = may_be_base(c.code_point) ? at : kNone;
            at += c.length;
            continue;
        }
        ActiveRun run{base == kNone ? at : base, at + c.length};
        while (run.end < text.size()) {
            const DecodedCharacter next = decode_valid_utf8(text.data() + run.end);
            if (!(table[next.code_point] & kNfcActive)) break;
            run.end += next.length;
        }
        return run;
    }
    return {};
}

}  // namespace

CharacterClass character_class(char32_t code_point) {
    return static_cast<CharacterClass>(properties()[code_point] & kClassMask);
}

std::span<const CodePointRange> letter_ranges() { return kLetterRanges; }
std::span<const CodePointRange> number_ranges() { return kNumberRanges; }
std::span<const CodePointRange> space_ranges() { return kSpaceRanges; }

bool is_nfc_active(char32_t code_point) { return (properties()[code_point] & kNfcActive) != 0; }

std::string_view normalize_nfc(std::string_view text, std::string& storage) {
    ActiveRun run = next_active_run(text, 0);
    if (run.begin == kNone) return text;
    storage.clear();
    size_t done = 0;
    while (run.begin != kNone) {
        storage.append(text.substr(done, run.begin - done));
        append_nfc(storage, text.substr(run.begin, run.end - run.begin));
        done = run.end;
        run = next_active_run(text, done);
    }
    storage.append(text.substr(done));
    return storage;
}

}  // namespace ballast::data
