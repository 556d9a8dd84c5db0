#include "data/foreign_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <fmt/format.h>

#include "base/error.h"

namespace ballast::data {

ForeignPattern::ForeignPattern(const std::string& pattern) {
    const std::string ours = to_pcre2(pattern);
    int error = 0;
    PCRE2_SIZE at = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(ours.data()), ours.size(),
                                     PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
    if (code == nullptr) {
        PCRE2_UCHAR message[200] = {};
        pcre2_get_error_message(error, message, sizeof message);
        throw UserError(fmt::format("is no regular expression: {}", reinterpret_cast<const char*>(message)));
    }
    code_ = std::shared_ptr<void>(code, [](void* held) { pcre2_code_free(static_cast<pcre2_code*>(held)); });
    uint32_t matches_empty = 0;
    pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_empty);
    if (matches_empty != 0) throw UserError("can match nothing at all; a pattern for cutting must match something");
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // where that fails, the interpreter does the same
}

ForeignPattern::Matcher::Matcher(const ForeignPattern& pattern)
    : code_(pattern.code_.get()),
      data_(pcre2_match_data_create_from_pattern(static_cast<const pcre2_code*>(code_), nullptr),
            [](void* held) { pcre2_match_data_free(static_cast<pcre2_match_data*>(held)); }) {
    require(data_ != nullptr, "PCRE2 gave no memory");
}

std::optional<ForeignPattern::Match> ForeignPattern::Matcher::find(std::string_view text, size_t from) const {
    auto* data = static_cast<pcre2_match_data*>(data_.get());
    const int found = pcre2_match(static_cast<const pcre2_code*>(code_), reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), from, PCRE2_NO_UTF_CHECK, data, nullptr);
    if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
    if (found < 0) {
        PCRE2_UCHAR message[200] = {};
        pcre2_get_error_message(found, message, sizeof message);
        throw UserError(fmt::format("the tokenizer's Split pattern gives up on a stretch of {} bytes: {}", text.size(),
                                    reinterpret_cast<const char*>(message)));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data);
    return Match{ends[0], ends[1]};
}

}  // namespace ballast::data
