#include "base/error.h"
#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"
#include "data/unicode.h"

namespace ballast::data {
namespace {

/// What a template for one text puts before it, or behind it.
void append_special(const std::vector<TemplateItem>& items, bool behind, std::vector<uint32_t>& out) {
    bool passed = false;
    for (const TemplateItem& item : items) {
        if (item.kind != TemplateItem::Kind::special) {
            passed = true;
        } else if (passed == behind) {
            out.insert(out.end(), item.ids.begin(), item.ids.end());
        }
    }
}

}  // namespace

void Encoder::encode(std::string_view text, std::vector<uint32_t>& out, const EncodeOptions& options) {
    text = checked_utf8(text, policy_, repaired_, options.first_offset);
    const auto& items = tokenizer_.spec_.post_processor.single;
    if (options.add_special) append_special(items, false, out);
    encode_text(text, out, options);
    if (options.add_special) append_special(items, true, out);
}

void Encoder::encode_text(std::string_view text, std::vector<uint32_t>& out, const EncodeOptions& options) {
    tokenizer_.raw_tokens_.take_apart(
        text,
        [&](std::string_view stretch, size_t begin) {
            const bool first = begin == 0;
            encode_stretch(stretch, first && !options.continues, first && options.continues, out);
        },
        [&](uint32_t id) { out.push_back(id); });
}

void Encoder::encode_stretch(std::string_view text, bool at_start, bool continues, std::vector<uint32_t>& out) {
    text = tokenizer_.normalizer_.normalize(text, normalized_, !continues);
    tokenizer_.normalized_tokens_.take_apart(
        text,
        [&](std::string_view stretch, size_t begin) {
            tokenizer_.plain_ ? encode_plain(stretch, out) : encode_pieces(stretch, at_start && begin == 0, out);
        },
        [&](uint32_t id) { out.push_back(id); });
}

void Encoder::encode_pieces(std::string_view text, bool at_start, std::vector<uint32_t>& out) {
    const auto pieces = splitter_.split(text, at_start);
    for (const PieceSplitter::Range& piece : pieces)
        encode_word(splitter_.text().substr(piece.begin, piece.end - piece.begin), out);
}

/// The same for one ByteLevel step, without a list of pieces.
void Encoder::encode_plain(std::string_view text, std::vector<uint32_t>& out) {
    const auto& step = std::get<ByteLevelStep>(tokenizer_.spec_.pre_tokenizers.front());
    if (step.add_prefix_space && text[0] != ' ') {
        prefixed_.assign(1, ' ').append(text);
        text = prefixed_;
    }
    if (!step.use_regex) return encode_word(text, out);
    for (size_t at = 0; at < text.size();) {
        const size_t end = next_word_end(text, at);
        encode_word(text.substr(at, end - at), out);
        at = end;
    }
}

void Encoder::encode_word(std::string_view word, std::vector<uint32_t>& out) {
    if (word.size() > WordCache::kMaxWordBytes) return words_.encode(word, out);
    const uint64_t hash = WordCache::hash_of(word);
    if (const auto known = cache_.find(word, hash); !known.empty()) {
        out.insert(out.end(), known.begin(), known.end());
        return;
    }
    const size_t before = out.size();
    words_.encode(word, out);
    if (out.size() > before) cache_.insert(word, hash, std::span(out).subspan(before));
}

std::vector<uint32_t> Tokenizer::encode(std::string_view text, InvalidUtf8 policy, const EncodeOptions& options) const {
    std::vector<uint32_t> ids;
    Encoder(*this, policy).encode(text, ids, options);
    return ids;
}

EncodedPair Tokenizer::encode_pair(std::string_view first, std::string_view second) const {
    std::vector<TemplateItem> items = spec_.post_processor.pair;
    if (items.empty()) items = {{TemplateItem::Kind::text_a, "", {}, 0}, {TemplateItem::Kind::text_b, "", {}, 1}};
    EncodedPair pair;
    Encoder encoder(*this);
    for (const TemplateItem& item : items) {
        if (item.kind == TemplateItem::Kind::special) {
            pair.ids.insert(pair.ids.end(), item.ids.begin(), item.ids.end());
        } else {
            encoder.encode(item.kind == TemplateItem::Kind::text_a ? first : second, pair.ids);
        }
        pair.type_ids.resize(pair.ids.size(), item.type_id);
    }
    return pair;
}

}  // namespace ballast::data
