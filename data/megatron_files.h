// Token files of Megatron-LM and GPT-NeoX, read in place: NAME.idx, and NAME.bin either whole or in the raw slices in
// which it was published (NAME-00000-of-00082.bin, …). So the 83 and 21 slices of Pythia's data, 600 GB, need not be
// joined.
//
//   NAME.idx  "MMIDIDX\0\0", u64 version 1, u8 type, u64 sequences, u64 documents + 1, i32 lengths[sequences] (tokens),
//             i64 places[sequences] (bytes), i64 documents[…]; little-endian, nothing aligned
//   NAME.bin  the tokens and nothing else
//
// GPT-NeoX treats a sequence as a document when it trains, and so do we.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/dtype.h"
#include "base/mapped_file.h"
#include "data/token_source.h"

namespace ballast::data {

class MegatronFiles : public TokenSource {
  public:
    /// Opens NAME.idx or NAME.bin. UserError for files that are missing, damaged, or of another or an older format.
    explicit MegatronFiles(const std::string& path);
    /// True when the path's name is that of such a file.
    static bool is_name(const std::string& path);
    /// NAME.idx and NAME.bin of either of the two.
    static std::vector<std::string> both_names(const std::string& path);

    /// u16 or i32.
    Dtype dtype() const override { return dtype_; }
    int64_t num_tokens() const override { return num_tokens_; }
    int64_t num_documents() const override { return num_documents_; }
    int64_t document_offset(int64_t d) const override;
    void read(int64_t first, int64_t count, int32_t* out) const override;
    /// Of the lengths of all documents, and of a million tokens in runs that are spread over the set. The same for
    /// whole files and slices, and for both types.
    std::string checksums() const override;
    std::vector<std::string> other_files() const override;

  private:
    struct Slice {
        MappedFile file;
        int64_t first, count;  // tokens
    };

    void read_index(const std::string& path);
    void open_slices(const std::string& name);
    void add_slice(const std::string& path);
    /// The number of tokens; lengths, places and slices must agree on it. UserError where they do not.
    int64_t checked_tokens(const std::string& path) const;
    int32_t length_of(int64_t document) const;

    MappedFile index_;
    Dtype dtype_ = Dtype::u16;
    int64_t num_tokens_ = 0, num_documents_ = 0;
    const char *lengths_ = nullptr, *places_ = nullptr;  // in index_
    std::vector<Slice> slices_;
};

/// Writes NAME.idx and NAME.bin, first the tokens, then the ends of documents. Whatever interrupts the writer, they are
/// the old files, the new files, or there is no NAME.idx.
class MegatronWriter {
  public:
    /// `path` is NAME.idx or NAME.bin. UserError when one of them cannot be written. `dtype` is u16, or u32 to be
    /// stored as i32.
    MegatronWriter(const std::string& path, Dtype dtype);

    void append_tokens(const void* tokens, int64_t count);
    /// `for_each(visit)` must call visit(ends) with the ends of all `num_documents`, in pieces and in order; it is
    /// called several times. The last end is the number of tokens.
    using VisitEnds = std::function<void(std::span<const int64_t>)>;
    void commit(int64_t num_documents, const std::function<void(const VisitEnds&)>& for_each);

  private:
    Dtype dtype_;
    AtomicFile tokens_, index_;
};

}  // namespace ballast::data
