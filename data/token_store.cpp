#include "data/token_store.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "data/tokenizer.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {
namespace {

constexpr const char* kFormat = "ballast-tokens";
constexpr int64_t kFormatVersion = 1;

TokenStoreInfo read_info(const Hdf5Reader& file, const std::string& path) {
    if (!file.has_attribute("format") || file.string_attribute("format") != kFormat)
        throw UserError(fmt::format("{}: not a token store; make one with \"ballast data prepare\"", path));
    if (const int64_t version = file.integer_attribute("format_version"); version != kFormatVersion)
        throw UserError(fmt::format("{}: token store of format version {}, this program reads {}; prepare it again",
                                    path, version, kFormatVersion));
    TokenStoreInfo info;
    info.tokenizer_hash = file.string_attribute("tokenizer_hash");
    info.vocab_size = file.integer_attribute("vocab_size");
    info.end_of_text_id = file.integer_attribute("end_of_text_id");
    info.sources = file.string_attribute("sources");
    info.begin_of_text_id = file.has_attribute("begin_of_text_id") ? file.integer_attribute("begin_of_text_id")
                                                                   : info.end_of_text_id;  // of an older store
    const auto is_id = [&info](int64_t id) { return id >= -1 && id < info.vocab_size; };
    if (info.vocab_size < 1 || info.vocab_size > int64_t{kMaxTokenId} + 1 || !is_id(info.end_of_text_id) ||
        !is_id(info.begin_of_text_id))
        throw UserError(
            fmt::format("{}: vocab_size = {} with end_of_text_id = {} and begin_of_text_id = {} makes no "
                        "sense; the file is damaged",
                        path, info.vocab_size, info.end_of_text_id, info.begin_of_text_id));
    return info;
}

int64_t length_of(const Hdf5Reader& file, const std::string& path, const char* name, Dtype dtype) {
    const Hdf5Dataset dataset = file.dataset(name);
    if (dataset.dtype != dtype || dataset.shape.size() != 1)
        throw UserError(fmt::format("{}: dataset {} must be {} with one dimension; prepare the file again", path, name,
                                    name_of(dtype)));
    return dataset.shape[0];
}

void check_offsets(std::span<const int64_t> offsets, int64_t num_tokens, const std::string& path) {
    const auto fail = [&path](const std::string& what) {
        throw UserError(fmt::format("{}: {} {}; the file is damaged, prepare it again", path, kOffsetsDataset, what));
    };
    if (offsets.empty()) fail("is empty");
    if (offsets.front() != 0) fail(fmt::format("starts at {} instead of 0", offsets.front()));
    const auto descent = std::is_sorted_until(offsets.begin(), offsets.end());
    if (descent != offsets.end()) fail(fmt::format("descends at entry {}", descent - offsets.begin()));
    if (offsets.back() != num_tokens)
        fail(fmt::format("ends at {}, but there are {} tokens", offsets.back(), num_tokens));
}

/// Widens, and returns the largest.
template <class Stored>
uint32_t widen(const Stored* from, int64_t count, int32_t* out) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t id = from[i];
        largest = std::max(largest, id);
        out[i] = static_cast<int32_t>(id);
    }
    return largest;
}

}  // namespace

int64_t first_id_of_texts(const Tokenizer& tokenizer) {
    const auto begin = tokenizer.begin_of_text_id() ? tokenizer.begin_of_text_id() : tokenizer.end_of_text_id();
    return begin ? int64_t{*begin} : -1;
}

Dtype token_dtype(int64_t vocab_size) { return vocab_size <= 65536 ? Dtype::u16 : Dtype::u32; }

void write_info(Hdf5Writer& file, const TokenStoreInfo& info) {
    file.set_attribute("format", kFormat);
    file.set_attribute("format_version", kFormatVersion);
    file.set_attribute("tokenizer_hash", info.tokenizer_hash);
    file.set_attribute("vocab_size", info.vocab_size);
    file.set_attribute("end_of_text_id", info.end_of_text_id);
    file.set_attribute("begin_of_text_id", info.begin_of_text_id);
    file.set_attribute("sources", info.sources);
}

TokenStore::TokenStore(const std::string& path) : path_(path) {
    if (!MegatronFiles::is_name(path)) {
        open_hdf5();
        return;
    }
    megatron_.emplace(path);
    dtype_ = megatron_->dtype();
    info_.vocab_size = dtype_ == Dtype::u16 ? 65536 : int64_t{kMaxTokenId} + 1;
}

void TokenStore::open_hdf5() {
    file_ = std::make_unique<Hdf5Reader>(path_);
    info_ = read_info(*file_, path_);
    dtype_ = token_dtype(info_.vocab_size);
    const int64_t num_tokens = length_of(*file_, path_, kTokensDataset, dtype_);
    const int64_t num_offsets = length_of(*file_, path_, kOffsetsDataset, Dtype::i64);
    tokens_ = file_->map(kTokensDataset);
    offsets_ = {static_cast<const int64_t*>(file_->map(kOffsetsDataset)), static_cast<size_t>(num_offsets)};
    check_offsets(offsets_, num_tokens, path_);
}

void TokenStore::assume_tokenizer(const Tokenizer& tokenizer) {
    require(info_.tokenizer_hash.empty(), "a store that says which tokenizer made it");
    info_.vocab_size = tokenizer.vocab_size();
    info_.begin_of_text_id = first_id_of_texts(tokenizer);
}

std::string TokenStore::fingerprint() const {
    const std::string sizes = fmt::format("{} tokens in {} documents", num_tokens(), num_documents());
    if (megatron_) return sizes;
    const auto tokens = file_->checksum(kTokensDataset), offsets = file_->checksum(kOffsetsDataset);
    return tokens && offsets ? fmt::format("{}, xxh3_64 {} {}", sizes, *tokens, *offsets) : sizes;
}

void TokenStore::read(int64_t first, int64_t count, int32_t* out) const {
    require(first >= 0 && count >= 0 && first <= num_tokens() - count, "tokens past the end of the store");
    uint32_t largest = 0;  // an id below zero is a large one
    if (megatron_) {
        megatron_->read(first, count, out);
        for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint32_t>(out[i]));
    } else {
        largest = dtype_ == Dtype::u16 ? widen(static_cast<const uint16_t*>(tokens_) + first, count, out)
                                       : widen(static_cast<const uint32_t*>(tokens_) + first, count, out);
    }
    if (count > 0 && largest >= info_.vocab_size)
        throw UserError(fmt::format("{}: token {} between {} and {}, but the vocabulary ends at {}; {}", path_, largest,
                                    first, first + count, info_.vocab_size - 1,
                                    megatron_ ? "the file was made with another tokenizer, or is damaged"
                                              : "the file is damaged, prepare it again"));
}

void TokenStore::verify() const {
    if (file_) {
        file_->verify(kOffsetsDataset);
        file_->verify(kTokensDataset);
    }
    constexpr int64_t kBlock = 1 << 16;
    std::vector<int32_t> block(kBlock);
    for (int64_t first = 0; first < num_tokens(); first += kBlock)
        read(first, std::min(kBlock, num_tokens() - first), block.data());
}

}  // namespace ballast::data
