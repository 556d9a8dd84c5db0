#include "data/hdf5_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/tokenizer_spec.h"

namespace ballast::data {
namespace {

constexpr const char* kStoreFormat = "ballast-tokens";
constexpr int64_t kStoreVersion = 1;
constexpr const char* kGroupsDataset = "groups";

TokenStoreInfo read_info(const Hdf5Reader& file, const std::string& path) {
    if (!file.has_attribute("format") || file.string_attribute("format") != kStoreFormat)
        throw UserError(fmt::format("{}: not a token store; make one with \"ballast data prepare\"", path));
    if (const int64_t version = file.integer_attribute("format_version"); version != kStoreVersion)
        throw UserError(fmt::format("{}: token store of format version {}, this program reads {}; prepare it again",
                                    path, version, kStoreVersion));
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
    info.groups = read_groups(file, path);
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

}  // namespace

Dtype token_dtype(int64_t vocab_size) { return vocab_size <= 65536 ? Dtype::u16 : Dtype::u32; }

void write_info(Hdf5Writer& file, const TokenStoreInfo& info) {
    file.set_attribute("format", kStoreFormat);
    file.set_attribute("format_version", kStoreVersion);
    file.set_attribute("tokenizer_hash", info.tokenizer_hash);
    file.set_attribute("vocab_size", info.vocab_size);
    file.set_attribute("end_of_text_id", info.end_of_text_id);
    file.set_attribute("begin_of_text_id", info.begin_of_text_id);
    file.set_attribute("sources", info.sources);
    write_groups(file, info.groups);
}

void write_groups(Hdf5Writer& file, const GroupCounts& groups) {
    if (groups.empty()) return;
    nlohmann::json json;
    for (const auto& [name, count] : groups) json[name] = {count.documents, count.tokens};
    const std::string text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    const int64_t shape[] = {static_cast<int64_t>(text.size())};
    file.write(kGroupsDataset, Dtype::u8, shape, text.data());
}

GroupCounts read_groups(const Hdf5Reader& file, const std::string& path) {
    GroupCounts groups;
    if (!file.has(kGroupsDataset)) return groups;
    const Hdf5Dataset dataset = file.dataset(kGroupsDataset);
    if (dataset.dtype != Dtype::u8) throw UserError(fmt::format("{}: dataset {} must be u8", path, kGroupsDataset));
    std::string text(static_cast<size_t>(dataset.numel()), '\0');
    file.read(kGroupsDataset, text.data(), 0, dataset.numel());
    try {
        const nlohmann::json json = nlohmann::json::parse(text);
        for (const auto& [name, counts] : json.items()) {
            const GroupCount count{counts.at(0).get<int64_t>(), counts.at(1).get<int64_t>()};
            if (count.documents < 0 || count.tokens < 0)
                throw UserError(fmt::format("{}: dataset {} is damaged (a count below 0); prepare the file again", path,
                                            kGroupsDataset));
            groups[name] = count;
        }
    } catch (const nlohmann::json::exception& error) {
        throw UserError(
            fmt::format("{}: dataset {} is damaged ({}); prepare the file again", path, kGroupsDataset, error.what()));
    }
    return groups;
}

Hdf5Tokens::Hdf5Tokens(const std::string& path) : file_(path), path_(path), info_(read_info(file_, path)) {
    dtype_ = token_dtype(info_.vocab_size);
    const int64_t num_tokens = length_of(file_, path, kTokensDataset, dtype_);
    const int64_t num_offsets = length_of(file_, path, kOffsetsDataset, Dtype::i64);
    tokens_ = file_.map(kTokensDataset);
    offsets_ = {static_cast<const int64_t*>(file_.map(kOffsetsDataset)), static_cast<size_t>(num_offsets)};
    check_offsets(offsets_, num_tokens, path);
}

void Hdf5Tokens::read(int64_t first, int64_t count, int32_t* out) const {
    if (dtype_ == Dtype::u16)
        std::copy_n(static_cast<const uint16_t*>(tokens_) + first, count, out);
    else
        std::copy_n(static_cast<const uint32_t*>(tokens_) + first, count, out);
}

std::string Hdf5Tokens::checksums() const {
    const auto tokens = file_.checksum(kTokensDataset), offsets = file_.checksum(kOffsetsDataset);
    return tokens && offsets ? fmt::format("xxh3_64 {} {}", *tokens, *offsets) : "";
}

void Hdf5Tokens::verify() const {
    file_.verify(kOffsetsDataset);
    file_.verify(kTokensDataset);
    for (const char* name : {kGroupsDataset, kHashesDataset, kDocumentGroupsDataset})
        if (file_.has(name)) file_.verify(name);
}

std::span<const DocumentHash> Hdf5Tokens::hashes() const {
    const auto count = static_cast<size_t>(num_documents());
    if (!file_.has(kHashesDataset))
        throw UserError(
            fmt::format("{} has no hashes of its documents to find duplicates by; remove it and prepare it "
                        "again with --drop-duplicates",
                        path_));
    const Hdf5Dataset dataset = file_.dataset(kHashesDataset);
    if (dataset.dtype != Dtype::i64 || dataset.shape != std::vector<int64_t>{num_documents(), 2})
        throw UserError(fmt::format("{}: dataset {} must be i64 [{}, 2]; remove the file and prepare it again", path_,
                                    kHashesDataset, count));
    return {static_cast<const DocumentHash*>(file_.map(kHashesDataset)), count};
}

std::string Hdf5Tokens::hashes_checksum() const {
    hashes();  // says what to do where they are missing
    return file_.checksum(kHashesDataset).value_or("");
}

std::span<const int32_t> Hdf5Tokens::groups_of_documents() const {
    if (info_.groups.empty()) return {};
    const auto fail = [this] {
        throw UserError(
            fmt::format("{}: dataset {} must be i32 [{}] with numbers of {} groups; remove the file and "
                        "prepare it again",
                        path_, kDocumentGroupsDataset, num_documents(), info_.groups.size()));
    };
    const Hdf5Dataset dataset = file_.dataset(kDocumentGroupsDataset);
    if (dataset.dtype != Dtype::i32 || dataset.shape != std::vector<int64_t>{num_documents()}) fail();
    const std::span groups(static_cast<const int32_t*>(file_.map(kDocumentGroupsDataset)),
                           static_cast<size_t>(num_documents()));
    for (const int32_t group : groups)
        if (group < -1 || group >= std::ssize(info_.groups)) fail();
    return groups;
}

}  // namespace ballast::data
