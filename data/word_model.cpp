#include "data/word_model.h"

#include <algorithm>

#include "base/error.h"
#include "data/byte_level.h"
#include "data/utf8.h"

namespace ballast::data {
namespace {

/// U+2581 with something else before it.
bool holds_inner_metaspace(std::string_view token) {
    for (size_t at = token.find(kMetaspace, 1); at != std::string_view::npos; at = token.find(kMetaspace, at + 1))
        if (!token.substr(0, at).ends_with(kMetaspace)) return true;
    return false;
}

}  // namespace

WordModel::WordModel(const TokenizerSpec& spec)
    : ignore_merges_(spec.ignore_merges),
      fuse_unk_(spec.fuse_unk),
      byte_fallback_(spec.byte_fallback),
      continuing_prefix_(spec.continuing_prefix),
      max_word_characters_(spec.max_word_characters) {
    for (const auto& [token, id] : spec.vocabulary) vocabulary_.emplace(token, id);
    if (!spec.unk_token.empty()) unk_ = find(spec.unk_token);
    if (spec.model == TokenModel::word_piece) {
        kind_ = Kind::word_piece;
    } else if (!byte_level_step(spec.pre_tokenizers)) {
        kind_ = Kind::characters;
    } else {
        const bool last = std::holds_alternative<ByteLevelStep>(spec.pre_tokenizers.back());
        kind_ = last ? Kind::bytes : Kind::letters_of_bytes;
    }
    for (int value = 0; value < 256; ++value) {
        const auto byte = static_cast<uint8_t>(value);
        const auto id =
            find(kind_ == Kind::characters ? byte_token(byte) : to_byte_level(std::string(1, static_cast<char>(byte))));
        has_byte_[byte] = id.has_value();
        if (id) merges_.set_byte(byte, *id);
        misses_bytes_ = misses_bytes_ || (!id && occurs_in_utf8(byte));
    }
    for (size_t rank = 0; rank < spec.merges.size(); ++rank) {
        const MergeRule& rule = spec.merges[rank];
        merges_.set_merge(rule.left, rule.right, {static_cast<uint32_t>(rank), rule.joined});
    }
    if (kind_ != Kind::characters) return;
    for (const auto& [token, id] : spec.vocabulary) {
        if (token.empty()) continue;
        const DecodedCharacter c = decode_valid_utf8(token.data());
        if (c.length == token.size()) characters_[c.code_point] = id;
    }
    ends_words_at_metaspace_ = finds_words_at_metaspace(spec);
}

bool WordModel::finds_words_at_metaspace(const TokenizerSpec& spec) const {
    if (ignore_merges_ || !find(kMetaspace)) return false;
    std::unordered_map<uint32_t, std::string_view> spellings;
    for (const auto& [token, id] : spec.vocabulary) spellings.emplace(id, token);
    return std::none_of(spec.merges.begin(), spec.merges.end(),
                        [&](const MergeRule& rule) { return holds_inner_metaspace(spellings.at(rule.joined)); });
}

std::optional<uint32_t> WordModel::find(std::string_view spelling) const {
    const auto found = vocabulary_.find(spelling);
    return found == vocabulary_.end() ? std::nullopt : std::optional(found->second);
}

void WordEncoder::encode(std::string_view word, std::vector<uint32_t>& out) {
    switch (model_.kind_) {
        case WordModel::Kind::bytes: return encode_bytes(word, out);
        case WordModel::Kind::letters_of_bytes: {
            const auto bytes = from_byte_level(word);
            require(bytes.has_value(), "a piece behind ByteLevel that is not of its letters");
            return encode_bytes(*bytes, out);
        }
        case WordModel::Kind::characters: return encode_characters(word, out);
        case WordModel::Kind::word_piece: return encode_word_piece(word, out);
    }
}

void WordEncoder::encode_bytes(std::string_view bytes, std::vector<uint32_t>& out) {
    if (model_.ignore_merges_) {
        if (const auto id = model_.find(to_byte_level(bytes))) return out.push_back(*id);
    }
    if (!model_.misses_bytes_) return merger_.encode(bytes, out);
    symbols_.clear();
    bool after_unknown = false;
    for (char character : bytes) {
        const auto byte = static_cast<uint8_t>(character);
        const bool known = model_.has_byte_[byte];
        known ? symbols_.push_back(model_.merges_.byte_id(byte)) : push_unknown(after_unknown);
        after_unknown = !known;
    }
    merger_.merge(symbols_, out);
}

/// What is unknown is unk_token, or nothing at all where there is none.
void WordEncoder::push_unknown(bool after_unknown) {
    if (model_.unk_ && !(after_unknown && model_.fuse_unk_)) symbols_.push_back(*model_.unk_);
}

void WordEncoder::encode_characters(std::string_view word, std::vector<uint32_t>& out) {
    if (model_.ignore_merges_) {
        if (const auto id = model_.find(word)) return out.push_back(*id);
    }
    symbols_.clear();
    bool after_unknown = false;
    for (size_t at = 0; at < word.size();) {
        const DecodedCharacter c = decode_valid_utf8(word.data() + at);
        const uint32_t* id = model_.characters_.find(c.code_point);
        if (id != nullptr) {
            symbols_.push_back(*id);
        } else if (model_.byte_fallback_) {
            for (uint32_t i = 0; i < c.length; ++i)
                symbols_.push_back(model_.merges_.byte_id(static_cast<uint8_t>(word[at + i])));
        } else {
            push_unknown(after_unknown);
        }
        after_unknown = id == nullptr;
        at += c.length;
    }
    merger_.merge(symbols_, out);
}

void WordEncoder::encode_word_piece(std::string_view word, std::vector<uint32_t>& out) {
    const size_t before = out.size();
    if (count_characters(word) <= model_.max_word_characters_ && append_pieces(word, out)) return;
    out.resize(before);
    out.push_back(*model_.unk_);
}

/// The longest token at each place, greedily; false where there is none.
bool WordEncoder::append_pieces(std::string_view word, std::vector<uint32_t>& out) {
    for (size_t begin = 0; begin < word.size();) {
        std::optional<uint32_t> id;
        size_t end = word.size();
        while (true) {
            spelling_.assign(begin > 0 ? model_.continuing_prefix_ : "").append(word.substr(begin, end - begin));
            if ((id = model_.find(spelling_))) break;
            do --end;
            while (end > begin && is_utf8_continuation(word[end]));
            if (end == begin) return false;
        }
        out.push_back(*id);
        begin = end;
    }
    return true;
}

}  // namespace ballast::data
