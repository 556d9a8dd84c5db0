// The HDF5 file of a token store.
#pragma once

#include <map>
#include <span>
#include <string>

#include "base/hdf5_file.h"
#include "data/duplicates.h"
#include "data/token_source.h"

namespace ballast::data {

inline constexpr const char* kTokensDataset = "tokens";
inline constexpr const char* kOffsetsDataset = "document_offsets";
/// Of parts whose duplicates are looked for (data/left_out.h): i64 [documents, 2], the DocumentHash of each document;
/// and, where there are groups, i32 [documents], the place of its group's name in their sorted list, or -1.
inline constexpr const char* kHashesDataset = "document_hashes";
inline constexpr const char* kDocumentGroupsDataset = "document_groups";

/// The counts of one group of texts, under the group's name (CorpusOptions::group_key; for the Pile, its sets).
struct GroupCount {
    int64_t documents = 0, tokens = 0;

    bool operator==(const GroupCount&) const = default;
};
using GroupCounts = std::map<std::string, GroupCount>;

/// Attributes of the root group, under these names, in addition to format = "ballast-tokens" and format_version = 1.
struct TokenStoreInfo {
    std::string tokenizer_hash;   ///< Tokenizer::hash(); empty: unknown, as for Megatron's files
    int64_t vocab_size = 0;       ///< of the tokenizer: every token is below it
    int64_t end_of_text_id = -1;  ///< the token after each document, or -1: documents have no such token
    std::string sources;          ///< the tokenised inputs, one path per line
    /// The first token of a text: the token that the tokenizer puts first, else its end-of-text token; -1: neither
    /// exists.
    int64_t begin_of_text_id = -1;
    GroupCounts groups = {};  ///< the u8 dataset groups, {name: [documents, tokens]}; empty: unknown
};

/// The type tokens are stored in: the smallest that holds every id.
Dtype token_dtype(int64_t vocab_size);

void write_info(Hdf5Writer& file, const TokenStoreInfo& info);
/// Nothing is written for no groups, and none are read where nothing is.
void write_groups(Hdf5Writer& file, const GroupCounts& groups);
GroupCounts read_groups(const Hdf5Reader& file, const std::string& path);

class Hdf5Tokens : public TokenSource {
  public:
    /// UserError for a file that is not a token store, or whose offsets do not ascend from 0 to the number of tokens.
    /// Checks all offsets, not the tokens.
    explicit Hdf5Tokens(const std::string& path);

    const TokenStoreInfo& info() const { return info_; }
    Dtype dtype() const override { return dtype_; }
    int64_t num_tokens() const override { return offsets_.back(); }
    int64_t num_documents() const override { return static_cast<int64_t>(offsets_.size()) - 1; }
    int64_t document_offset(int64_t d) const override { return offsets_[static_cast<size_t>(d)]; }
    void read(int64_t first, int64_t count, int32_t* out) const override;
    std::string checksums() const override;
    void verify() const override;

    /// kHashesDataset, and its stored checksum. UserError when the store has none.
    std::span<const DocumentHash> hashes() const;
    std::string hashes_checksum() const;
    /// kDocumentGroupsDataset; empty where there are no groups. UserError when it does not fit the store.
    std::span<const int32_t> groups_of_documents() const;

  private:
    Hdf5Reader file_;
    std::string path_;
    TokenStoreInfo info_;
    Dtype dtype_ = Dtype::u16;
    const void* tokens_ = nullptr;
    std::span<const int64_t> offsets_;
};

}  // namespace ballast::data
