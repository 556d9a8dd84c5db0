// Tokens on disk, ready to train on: files of Megatron-LM and GPT-NeoX (data/megatron_files.h), parts that many
// processes have made (data/joined_parts.h), or an HDF5 file (data/hdf5_tokens.h) with
//   tokens            u16 or u32 [num_tokens]   all documents one after another
//   document_offsets  i64 [num_documents + 1]   from 0 to num_tokens; document d is tokens [offsets[d], offsets[d + 1])
// and the attributes listed at TokenStoreInfo.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "data/hdf5_tokens.h"
#include "data/token_source.h"

namespace ballast::data {

class Tokenizer;

/// TokenStoreInfo::begin_of_text_id of a store that this tokenizer makes.
int64_t first_id_of_texts(const Tokenizer& tokenizer);

/// Read-only and mapped: pages come from the disk as they are used. Any thread may read.
class TokenStore {
  public:
    /// `path` is NAME.idx or NAME.bin of Megatron's files, NAME.json of parts, else an HDF5 file. UserError as the
    /// source that it is has it.
    explicit TokenStore(const std::string& path);

    const std::string& path() const { return path_; }
    const TokenStoreInfo& info() const { return info_; }
    const std::string& tokenizer_hash() const { return info_.tokenizer_hash; }
    int64_t vocab_size() const { return info_.vocab_size; }
    Dtype dtype() const { return source_->dtype(); }
    int64_t num_tokens() const { return source_->num_tokens(); }
    int64_t num_documents() const { return source_->num_documents(); }
    /// Tokens before document d; d = num_documents(): all of them.
    int64_t document_offset(int64_t d) const { return source_->document_offset(d); }

    /// Of a store that does not say which tokenizer made it: takes it to be this one. Tokens outside its vocabulary are
    /// refused when they are read.
    void assume_tokenizer(const Tokenizer& tokenizer);

    /// A text that two stores share when they hold the same documents: their checksums as they stand in the file, so
    /// nothing is read; of a foreign file without them only the sizes. The same documents in parts are another store's.
    std::string fingerprint() const;

    /// Copies tokens [first, first + count) to `out`. UserError when one is not below vocab_size: the file is damaged.
    void read(int64_t first, int64_t count, int32_t* out) const;

    /// Reads everything: checksums of all datasets, every token below vocab_size. UserError when something is wrong.
    void verify() const;

  private:
    std::string path_;
    std::unique_ptr<TokenSource> source_;
    TokenStoreInfo info_;
};

}  // namespace ballast::data
