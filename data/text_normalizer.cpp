#include "data/text_normalizer.h"

#include "data/replace_all.h"
#include "data/unicode.h"
#include "data/unicode_classes.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

/// Applies one step to `text`: to `out`, or returns `text` where there is nothing to do.
struct Apply {
    std::string_view text;
    std::string& out;
    bool prepend;

    std::string_view operator()(const NfcStep&) const { return normalize_nfc(text, out); }
    std::string_view operator()(const PrependStep& step) const {
        if (!prepend || text.empty()) return text;
        return out.assign(step.prefix).append(text);
    }
    std::string_view operator()(const ReplaceStep& step) const {
        if (text.find(step.pattern) == std::string_view::npos) return text;
        out.clear();
        append_replaced(out, text, step);
        return out;
    }
    std::string_view operator()(const BertNormalizerStep& step) const;
};

/// All of BERT's cleaning works on one character at a time, so it is done in one pass.
class BertCleaner {
  public:
    BertCleaner(const BertNormalizerStep& step, std::string& out)
        : step_(step), strip_(step.strip_accents.value_or(step.lowercase)), out_(out) {}

    void add(char32_t c) {
        if (step_.clean_text) {
            if (is_bert_removed(c)) return;
            if (is_bert_space(c)) c = U' ';
        }
        const bool spaced = step_.handle_chinese_chars && is_bert_spaced(c);
        if (spaced) out_ += ' ';
        if (!strip_) {
            add_case(c);
        } else {
            bare_.clear();
            append_without_accents(bare_, c);
            for (size_t at = 0; at < bare_.size();) {
                const DecodedCharacter part = decode_valid_utf8(bare_.data() + at);
                add_case(part.code_point);
                at += part.length;
            }
        }
        if (spaced) out_ += ' ';
    }

  private:
    void add_case(char32_t c) { step_.lowercase ? append_lowercase(out_, c) : append_utf8(out_, c); }

    const BertNormalizerStep& step_;
    bool strip_;
    std::string& out_;
    std::string bare_;
};

std::string_view Apply::operator()(const BertNormalizerStep& step) const {
    out.clear();
    BertCleaner cleaner(step, out);
    for (size_t at = 0; at < text.size();) {
        const DecodedCharacter c = decode_valid_utf8(text.data() + at);
        cleaner.add(c.code_point);
        at += c.length;
    }
    return out;
}

}  // namespace

std::string_view TextNormalizer::normalize(std::string_view text, Storage& storage, bool prepend) const {
    for (const Normalizer& step : steps_) {
        const std::string_view normal = std::visit(Apply{text, storage.next, prepend}, step);
        if (normal.data() == text.data() && normal.size() == text.size()) continue;
        storage.now.swap(storage.next);
        text = storage.now;
    }
    return text;
}

}  // namespace ballast::data
