// Tokens on disk, ready to train on: files of Megatron-LM and GPT-NeoX (data/megatron_files.h), or an HDF5 file with
//   tokens            u16 or u32 [num_tokens]   all documents one after another
//   document_offsets  i64 [num_documents + 1]   from 0 to num_tokens; document d is tokens [offsets[d], offsets[d + 1])
// and the attributes listed at TokenStoreInfo.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/hdf5_file.h"
#include "data/megatron_files.h"

namespace ballast::data {

inline constexpr const char* kTokensDataset = "tokens";
inline constexpr const char* kOffsetsDataset = "document_offsets";

/// Attributes of the root group, under these names, next to format = "ballast-tokens" and format_version = 1.
struct TokenStoreInfo {
    std::string tokenizer_hash;   ///< Tokenizer::hash(); empty: unknown, as of Megatron's files
    int64_t vocab_size = 0;       ///< of the tokenizer: every token is below it
    int64_t end_of_text_id = -1;  ///< the token after each document, or -1: none was put there
    std::string sources;          ///< what was tokenised, a path a line
    /// The token that a text begins with: what the tokenizer puts first, else its end-of-text token; -1: neither
    /// exists.
    int64_t begin_of_text_id = -1;
};

class Tokenizer;

/// TokenStoreInfo::begin_of_text_id of a store that this tokenizer makes.
int64_t first_id_of_texts(const Tokenizer& tokenizer);

/// The type tokens are stored in: the smallest that holds every id.
Dtype token_dtype(int64_t vocab_size);

void write_info(Hdf5Writer& file, const TokenStoreInfo& info);

/// Read-only and mapped: pages come from the disk as they are used. Any thread may read.
class TokenStore {
  public:
    /// `path` is NAME.idx or NAME.bin of Megatron's files, else an HDF5 file. UserError for a file that is not a token
    /// store, or whose offsets are not ascending from 0 to the number of tokens. Looks at all offsets, not at the
    /// tokens.
    explicit TokenStore(const std::string& path);

    const std::string& path() const { return path_; }
    const TokenStoreInfo& info() const { return info_; }
    const std::string& tokenizer_hash() const { return info_.tokenizer_hash; }
    int64_t vocab_size() const { return info_.vocab_size; }
    Dtype dtype() const { return dtype_; }
    int64_t num_tokens() const { return megatron_ ? megatron_->num_tokens() : offsets_.back(); }
    int64_t num_documents() const {
        return megatron_ ? megatron_->num_documents() : static_cast<int64_t>(offsets_.size()) - 1;
    }
    /// Tokens before document d; d = num_documents(): all of them.
    int64_t document_offset(int64_t d) const {
        return megatron_ ? megatron_->document_offset(d) : offsets_[static_cast<size_t>(d)];
    }

    /// Of a store that does not say which tokenizer made it: takes it to be this one. Tokens outside its vocabulary are
    /// refused when they are read.
    void assume_tokenizer(const Tokenizer& tokenizer);

    /// A text that two stores share when they hold the same documents: their checksums as they stand in the file, so
    /// nothing is read; of a foreign file without them only the sizes.
    std::string fingerprint() const;

    /// Copies tokens [first, first + count) to `out`. UserError when one is not below vocab_size: the file is damaged.
    void read(int64_t first, int64_t count, int32_t* out) const;

    /// Reads everything: checksums of both datasets, every token below vocab_size. UserError when something is wrong.
    void verify() const;

  private:
    void open_hdf5();

    std::string path_;
    std::optional<MegatronFiles> megatron_;
    std::unique_ptr<Hdf5Reader> file_;  // the rest is of an HDF5 file
    TokenStoreInfo info_;
    Dtype dtype_ = Dtype::u16;
    const void* tokens_ = nullptr;
    std::span<const int64_t> offsets_;
};

}  // namespace ballast::data
