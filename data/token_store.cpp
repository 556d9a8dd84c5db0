#include "data/token_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/joined_parts.h"
#include "data/megatron_files.h"
#include "data/tokenizer.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {

int64_t first_id_of_texts(const Tokenizer& tokenizer) {
    const auto begin = tokenizer.begin_of_text_id() ? tokenizer.begin_of_text_id() : tokenizer.end_of_text_id();
    return begin ? int64_t{*begin} : -1;
}

std::vector<std::string> files_to_write(const std::string& path) {
    return MegatronFiles::is_name(path) ? MegatronFiles::both_names(path) : std::vector{path};
}

TokenStore::TokenStore(const std::string& path) : path_(path) {
    if (MegatronFiles::is_name(path)) {
        source_ = std::make_unique<MegatronFiles>(path);
        info_.vocab_size = source_->dtype() == Dtype::u16 ? 65536 : int64_t{kMaxTokenId} + 1;
    } else if (JoinedParts::is_name(path)) {
        auto parts = std::make_unique<JoinedParts>(path);
        info_ = parts->info();
        source_ = std::move(parts);
    } else {
        auto file = std::make_unique<Hdf5Tokens>(path);
        info_ = file->info();
        source_ = std::move(file);
    }
}

std::vector<std::string> TokenStore::files() const {
    std::vector<std::string> all = source_->other_files();
    all.push_back(path_);
    return all;
}

void TokenStore::assume_tokenizer(const Tokenizer& tokenizer) {
    require(info_.tokenizer_hash.empty(), "a store that says which tokenizer made it");
    info_.vocab_size = tokenizer.vocab_size();
    info_.begin_of_text_id = first_id_of_texts(tokenizer);
}

std::string TokenStore::sizes() const {
    return fmt::format("{} tokens in {} documents", num_tokens(), num_documents());
}

std::string TokenStore::fingerprint() const {
    const std::string checksums = source_->checksums();
    return sizes() + (checksums.empty() ? "" : ", " + checksums);
}

bool TokenStore::has_fingerprint(const std::string& fingerprint) const {
    return (MegatronFiles::is_name(path_) && fingerprint == sizes()) || fingerprint == this->fingerprint();
}

void TokenStore::read(int64_t first, int64_t count, int32_t* out) const {
    require(first >= 0 && count >= 0 && first <= num_tokens() - count, "tokens past the end of the store");
    source_->read(first, count, out);
    uint32_t largest = 0;  // an id below zero is a large one
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint32_t>(out[i]));
    if (count > 0 && largest >= info_.vocab_size)
        throw UserError(fmt::format("{}: token {} between {} and {}, but the vocabulary ends at {}; {}", path_, largest,
                                    first, first + count, info_.vocab_size - 1,
                                    info_.tokenizer_hash.empty()
                                        ? "the file was made with another tokenizer, or is damaged"
                                        : "the file is damaged, prepare it again"));
}

void TokenStore::verify() const {
    source_->verify();
    constexpr int64_t kBlock = 1 << 16;
    std::vector<int32_t> block(kBlock);
    for (int64_t first = 0; first < num_tokens(); first += kBlock)
        read(first, std::min(kBlock, num_tokens() - first), block.data());
}

}  // namespace ballast::data
