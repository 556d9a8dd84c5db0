// Tokens on disk, ready for training: files of Megatron-LM and GPT-NeoX (data/megatron_files.h), parts made by several
// processes (data/joined_parts.h), or an HDF5 file (data/hdf5_tokens.h) with
//   tokens            u16 or u32 [num_tokens]   all documents one after another
//   document_offsets  i64 [num_documents + 1]   from 0 to num_tokens; document d is tokens [offsets[d], offsets[d + 1])
// and the attributes listed at TokenStoreInfo.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/hdf5_tokens.h"
#include "data/token_source.h"

namespace ballast::data {

class Tokenizer;

/// The files that a store of this name is written to: of Megatron's NAME.idx and NAME.bin both, else the one named.
std::vector<std::string> files_to_write(const std::string& path);

/// The TokenStoreInfo::begin_of_text_id of a store made with this tokenizer.
int64_t first_id_of_texts(const Tokenizer& tokenizer);

/// Read-only and mapped: pages are loaded from the disk when they are used. Any thread may read.
class TokenStore {
  public:
    /// `path` is NAME.idx or NAME.bin of Megatron's files, NAME.json of parts, else an HDF5 file. UserErrors as for the
    /// class that reads the format.
    explicit TokenStore(const std::string& path);

    const std::string& path() const { return path_; }
    /// All files that are read.
    std::vector<std::string> files() const;
    const TokenStoreInfo& info() const { return info_; }
    const std::string& tokenizer_hash() const { return info_.tokenizer_hash; }
    int64_t vocab_size() const { return info_.vocab_size; }
    Dtype dtype() const { return source_->dtype(); }
    int64_t num_tokens() const { return source_->num_tokens(); }
    int64_t num_documents() const { return source_->num_documents(); }
    int64_t documents_left_out() const { return source_->documents_left_out(); }
    /// The number of tokens before document d; for d = num_documents(), of all tokens.
    int64_t document_offset(int64_t d) const { return source_->document_offset(d); }

    /// For a store that does not name its tokenizer: assumes that it was made with this one. Tokens outside the
    /// vocabulary are refused when they are read.
    void assume_tokenizer(const Tokenizer& tokenizer);

    /// A text that is equal for two stores with the same documents: their sizes and TokenSource::checksums(). The same
    /// documents in parts have a different fingerprint.
    std::string fingerprint() const;
    /// True for fingerprint(), and for the one that older versions gave to Megatron's files: their sizes alone.
    bool has_fingerprint(const std::string& fingerprint) const;

    /// Copies tokens [first, first + count) to `out`. UserError when one is not below vocab_size: the file is damaged.
    void read(int64_t first, int64_t count, int32_t* out) const;

    /// Reads everything: checks the checksums of all datasets, and that every token is below vocab_size. UserError on a
    /// mismatch.
    void verify() const;

  private:
    std::string sizes() const;

    std::string path_;
    std::unique_ptr<TokenSource> source_;
    TokenStoreInfo info_;
};

}  // namespace ballast::data
