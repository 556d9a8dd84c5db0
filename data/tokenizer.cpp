#include "data/tokenizer.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <memory>

#include "base/atomic_file.h"
#include "base/error.h"
#include "data/byte_level.h"
#include "data/pre_tokenizer.h"
#include "data/unicode.h"

namespace ballast::data {
namespace {

/// XXH3-128 over a sequence of fields, each with its length, so that no two sequences run into the same bytes.
class FieldHash {
  public:
    FieldHash() : state_(XXH3_createState(), &XXH3_freeState) { XXH3_128bits_reset(state_.get()); }

    void add(uint64_t number) {
        uint8_t bytes[8];
        for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(number >> 8 * i);
        XXH3_128bits_update(state_.get(), bytes, sizeof bytes);
    }
    void add(std::string_view text) {
        add(uint64_t{text.size()});
        XXH3_128bits_update(state_.get(), text.data(), text.size());
    }
    std::string hex() const {
        const XXH128_hash_t digest = XXH3_128bits_digest(state_.get());
        return fmt::format("{:016x}{:016x}", digest.high64, digest.low64);
    }

  private:
    std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

std::string hash_of(const TokenizerSpec& spec) {
    FieldHash hash;
    for (bool flag : {spec.nfc, spec.add_prefix_space, spec.split_words, spec.ignore_merges}) hash.add(uint64_t{flag});
    hash.add(uint64_t{spec.vocabulary.size()});
    for (const auto& [token, id] : spec.vocabulary) {
        hash.add(token);
        hash.add(uint64_t{id});
    }
    hash.add(uint64_t{spec.merges.size()});
    for (const MergeRule& rule : spec.merges) hash.add(pair_key(rule.left, rule.right));
    hash.add(uint64_t{spec.added_tokens.size()});
    for (const AddedToken& token : spec.added_tokens) {
        hash.add(token.content);
        hash.add(uint64_t{token.id});
        hash.add(uint64_t{token.special} << 1 | uint64_t{token.normalized});
    }
    return hash.hex();
}

/// Decoders of the package read a token through the byte alphabet and fall back on its plain text.
std::string bytes_of(const std::string& spelling) { return from_byte_level(spelling).value_or(spelling); }

}  // namespace

Tokenizer Tokenizer::load(const std::string& path) { return Tokenizer(parse_tokenizer_json(read_file(path), path)); }

Tokenizer::Tokenizer(TokenizerSpec spec) : spec_(std::move(spec)), hash_(hash_of(spec_)) {
    for (const auto& [spelling, id] : spec_.vocabulary) add_token(spelling, id);
    for (int byte = 0; byte < 256; ++byte) {
        const auto id = ids_.find(to_byte_level(std::string(1, static_cast<char>(byte))));
        if (id != ids_.end()) merges_.set_byte(static_cast<uint8_t>(byte), id->second);
    }
    for (size_t rank = 0; rank < spec_.merges.size(); ++rank) {
        const MergeRule& rule = spec_.merges[rank];
        merges_.set_merge(rule.left, rule.right, {static_cast<uint32_t>(rank), rule.joined});
    }
    std::string normal;
    for (const AddedToken& token : spec_.added_tokens) {
        add_token(token.content, token.id);
        if (!token.normalized) {
            raw_tokens_.add(token.content, token.id);
        } else {
            normalized_tokens_.add(spec_.nfc ? normalize_nfc(token.content, normal) : token.content, token.id);
        }
    }
}

void Tokenizer::add_token(const std::string& spelling, uint32_t id) {
    ids_.emplace(spelling, id);
    if (id >= tokens_.size()) tokens_.resize(id + size_t{1});
    tokens_[id] = bytes_of(spelling);
}

void Tokenizer::save(const std::string& path) const { write_file(path, to_tokenizer_json(spec_)); }

std::optional<std::string_view> Tokenizer::token_bytes(uint32_t id) const {
    if (id >= tokens_.size() || !tokens_[id]) return std::nullopt;
    return *tokens_[id];
}

std::optional<uint32_t> Tokenizer::token_id(std::string_view spelling) const {
    const auto it = ids_.find(spelling);
    if (it == ids_.end()) return std::nullopt;
    return it->second;
}

std::vector<uint32_t> Tokenizer::encode(std::string_view text, InvalidUtf8 policy) const {
    std::vector<uint32_t> ids;
    Encoder(*this, policy).encode(text, ids);
    return ids;
}

std::string Tokenizer::decode(std::span<const uint32_t> ids) const {
    std::string text;
    for (uint32_t id : ids) {
        const auto bytes = token_bytes(id);
        if (!bytes) {
            throw UserError(fmt::format("token id {} stands for no token of this tokenizer (ids run from 0 to {}); "
                                        "was the text encoded with another one?", id, vocab_size() - 1));
        }
        text += *bytes;
    }
    return text;
}

bool Tokenizer::is_safe_cut(std::string_view text, size_t at) const {
    // A stretch gets a prefix space unless it begins with one, so then the later part must.
    if (spec_.add_prefix_space && text[at] != ' ') return false;
    return is_word_cut(text, at) && !raw_tokens_.holds_pair(text[at - 1], text[at]) &&
           !normalized_tokens_.holds_pair(text[at - 1], text[at]);
}

size_t Tokenizer::last_safe_cut(std::string_view text) const {
    if (!spec_.split_words) return 0;
    for (size_t at = text.size(); at-- > 1;)
        if (is_safe_cut(text, at)) return at;
    return 0;
}

void Encoder::encode(std::string_view text, std::vector<uint32_t>& out, int64_t first_offset) {
    text = checked_utf8(text, policy_, repaired_, first_offset);
    for (size_t at = 0; at < text.size();) {
        const TokenMatcher::Match match = tokenizer_.raw_tokens_.find(text, at);
        encode_unmatched(text.substr(at, match.found() ? match.begin - at : text.size() - at), out);
        if (!match.found()) return;
        out.push_back(match.id);
        at = match.end;
    }
}

void Encoder::encode_unmatched(std::string_view text, std::vector<uint32_t>& out) {
    if (tokenizer_.spec_.nfc) text = normalize_nfc(text, normalized_);
    for (size_t at = 0; at < text.size();) {
        const TokenMatcher::Match match = tokenizer_.normalized_tokens_.find(text, at);
        encode_words(text.substr(at, match.found() ? match.begin - at : text.size() - at), out);
        if (!match.found()) return;
        out.push_back(match.id);
        at = match.end;
    }
}

void Encoder::encode_words(std::string_view text, std::vector<uint32_t>& out) {
    if (text.empty()) return;
    if (tokenizer_.spec_.add_prefix_space && text[0] != ' ') {
        prefixed_.assign(1, ' ').append(text);
        text = prefixed_;
    }
    if (!tokenizer_.spec_.split_words) return encode_word(text, out);
    for (size_t at = 0; at < text.size();) {
        const size_t end = next_word_end(text, at);
        encode_word(text.substr(at, end - at), out);
        at = end;
    }
}

void Encoder::encode_word(std::string_view word, std::vector<uint32_t>& out) {
    if (word.size() > WordCache::kMaxWordBytes) return merge_word(word, out);
    const uint64_t hash = WordCache::hash_of(word);
    if (const auto known = cache_.find(word, hash); !known.empty()) {
        out.insert(out.end(), known.begin(), known.end());
        return;
    }
    const size_t before = out.size();
    merge_word(word, out);
    cache_.insert(word, hash, std::span(out).subspan(before));
}

void Encoder::merge_word(std::string_view word, std::vector<uint32_t>& out) {
    if (tokenizer_.spec_.ignore_merges) {
        if (const auto id = tokenizer_.token_id(to_byte_level(word))) return out.push_back(*id);
    }
    merger_.encode(word, out);
}

}  // namespace ballast::data
