#include "data/tokenizer.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "base/atomic_file.h"
#include "base/error.h"
#include "data/pre_tokenizer.h"

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
    if (is_plain_byte_level(spec)) {
        const ByteLevelStep& step = *byte_level_step(spec.pre_tokenizers);
        for (bool flag : {!spec.normalizers.empty(), step.add_prefix_space, step.use_regex, spec.ignore_merges})
            hash.add(uint64_t{flag});
    } else {
        hash.add(pipeline_text(spec));
    }
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
        uint64_t flags = 0;
        for (bool flag : {token.single_word, token.rstrip, token.lstrip, token.special, token.normalized})
            flags = flags << 1 | uint64_t{flag};
        hash.add(flags);
    }
    return hash.hex();
}

}  // namespace

Tokenizer Tokenizer::load(const std::string& path) {
    const std::string content = read_file(path);
    return Tokenizer(path.ends_with(".model") ? parse_sentencepiece_model(content, path)
                                              : parse_tokenizer_json(content, path));
}

Tokenizer::Tokenizer(TokenizerSpec spec)
    : spec_(std::move(spec)),
      plain_(is_plain_byte_level(spec_)),
      decodes_bytes_(spec_.decoder.size() == 1 && std::holds_alternative<ByteLevelDecoderStep>(spec_.decoder.front())),
      normalizer_(spec_.normalizers),
      model_(spec_),
      split_plan_(spec_.pre_tokenizers, model_.ends_words_at_metaspace()),
      hash_(hash_of(spec_)) {
    for (const auto& [spelling, id] : spec_.vocabulary) add_token(spelling, id, false);
    for (const AddedToken& token : spec_.added_tokens) add_token(token.content, token.id, token.special);
    add_to_finders();
    can_be_cut_ = finds_cuts();
}

void Tokenizer::add_token(const std::string& spelling, uint32_t id, bool special) {
    ids_.emplace(spelling, id);
    if (id >= tokens_.size()) tokens_.resize(id + size_t{1});
    tokens_[id] = Token{spelling, bytes_of_token(spec_.decoder, spelling), special};
}

void Tokenizer::add_to_finders() {
    TextNormalizer::Storage storage;
    const auto add = [&](const AddedToken& token) {
        if (!token.normalized) {
            raw_tokens_.add(token.content, token);
        } else if (const auto content = normalizer_.normalize(token.content, storage); !content.empty()) {
            normalized_tokens_.add(content, token);
        }
    };
    // Of two with one normalized form the first is found, and the package gives special tokens the precedence.
    for (const bool special : {true, false})
        for (const AddedToken& token : spec_.added_tokens)
            if (token.special == special) add(token);
}

void Tokenizer::save(const std::string& path) const { write_file(path, to_tokenizer_json(spec_)); }

const Tokenizer::Token& Tokenizer::token(uint32_t id) const {
    if (id < tokens_.size() && tokens_[id]) return *tokens_[id];
    throw UserError(
        fmt::format("token id {} stands for no token of this tokenizer (ids run from 0 to {}); "
                    "was the text encoded with another one?",
                    id, vocab_size() - 1));
}

std::optional<std::string_view> Tokenizer::token_bytes(uint32_t id) const {
    if (id >= tokens_.size() || !tokens_[id]) return std::nullopt;
    return tokens_[id]->bytes;
}

std::optional<uint32_t> Tokenizer::token_id(std::string_view spelling) const {
    const auto it = ids_.find(spelling);
    if (it == ids_.end()) return std::nullopt;
    return it->second;
}

std::optional<std::string_view> Tokenizer::token_spelling(uint32_t id) const {
    if (id >= tokens_.size() || !tokens_[id]) return std::nullopt;
    return tokens_[id]->spelling;
}

std::optional<uint32_t> Tokenizer::begin_of_text_id() const {
    const auto& items = spec_.post_processor.single;
    if (items.empty() || items.front().ids.empty()) return std::nullopt;
    return items.front().ids.front();
}

std::optional<uint32_t> Tokenizer::end_of_text_id() const {
    for (const char* spelling : {"<|endoftext|>", "<|end_of_text|>", "</s>"})
        if (const auto id = token_id(spelling)) return id;
    return std::nullopt;
}

std::string Tokenizer::decode(std::span<const uint32_t> ids, bool skip_special) const {
    std::string text;
    TokenDecoder decoder(spec_.decoder, text);
    for (uint32_t id : ids) {
        const Token& next = token(id);
        if (skip_special && next.special) continue;
        if (decodes_bytes_) {
            text += next.bytes;
        } else {
            decoder.push(next.spelling);
        }
    }
    decoder.finish();
    return text;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer), skip_special_(skip_special) {}

std::string StreamDecoder::push(uint32_t id) {
    const Tokenizer::Token& next = tokenizer_.token(id);
    if (skip_special_ && next.special) return "";
    if (!decoder_) decoder_.emplace(tokenizer_.spec_.decoder, pending_);
    decoder_->push(next.spelling);
    return take_whole_characters(pending_);
}

std::string StreamDecoder::finish() {
    if (decoder_) decoder_->finish();
    decoder_.reset();
    std::string text = take_whole_characters(pending_);
    if (!pending_.empty()) append_utf8(text, kReplacementCharacter);
    pending_.clear();
    return text;
}

// Cutting long texts.
// ---------------------------------------------------------------------------------------------------

/// Whether anything but the characters beside a cut could tell that it is there. Plain pipelines are known to be fine.
bool Tokenizer::finds_cuts() const {
    if (plain_) return byte_level_step(spec_.pre_tokenizers)->use_regex;
    bool metaspaces = false;
    for (const Normalizer& step : spec_.normalizers) {
        const auto* replace = std::get_if<ReplaceStep>(&step);
        if (replace && (replace->pattern != " " || replace->content != kMetaspace)) return false;
        metaspaces = metaspaces || replace != nullptr;
    }
    TextNormalizer::Storage storage;
    for (const AddedToken& token : spec_.added_tokens) {
        std::string_view content = token.content;
        if (token.normalized) content = normalizer_.normalize(content, storage);
        if (content.empty()) continue;
        // Its first place does not matter: a match may begin at a cut, only not be cut.
        const bool inside =
            content.find(' ', 1) != std::string_view::npos || content.find(kMetaspace, 1) != std::string_view::npos;
        if ((token.normalized && inside) || (token.single_word && content[0] == ' ')) return false;
    }
    return split_plan_.cuts_at_spaces(metaspaces);
}

bool Tokenizer::is_safe_cut(std::string_view text, size_t at) const {
    // A stretch gets a prefix space unless it begins with one, so then the later part must; U+2581 comes of spaces
    // alone.
    if ((!plain_ || adds_prefix_space(spec_)) && text[at] != ' ') return false;
    if (!is_word_cut(text, at) || raw_tokens_.holds_pair(text[at - 1], text[at])) return false;
    if (plain_) return !normalized_tokens_.holds_pair(text[at - 1], text[at]);
    const std::string_view before = text.substr(0, at);
    if (before.ends_with(kMetaspace)) return false;
    // An added token may swallow the space behind it, and Prepend works anew behind one.
    return std::none_of(spec_.added_tokens.begin(), spec_.added_tokens.end(),
                        [&](const AddedToken& token) { return before.ends_with(token.content); });
}

size_t Tokenizer::last_safe_cut(std::string_view text) const {
    if (!can_be_cut_) return 0;
    for (size_t at = text.size(); at-- > 1;)
        if (is_safe_cut(text, at)) return at;
    return 0;
}

}  // namespace ballast::data
