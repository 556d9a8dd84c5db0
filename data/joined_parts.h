// Token stores made by several processes, one per input file, read as one store. NAME.json lists them in order; nothing
// is copied:
//   {"format": "ballast-token-parts", "format_version": 1, "sources", "parts": [{"file", "tokens", "documents",
//   "checksums"}], "left_out": {"file", "checksums"}}
// "left_out", with format_version 2, names the list of documents that are left out (data/left_out.h). "file" is
// relative to NAME.json. (HDF5's virtual datasets would read a missing part as zeros without an error.)
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "data/hdf5_tokens.h"
#include "data/left_out.h"

namespace ballast::data {

class JoinedParts : public TokenSource {
  public:
    /// Opens all parts. UserError that names a part which is missing, damaged, made with another tokenizer or other
    /// options than the others, or different from the part that was joined.
    explicit JoinedParts(const std::string& path);
    /// True when the path's name is that of such an index.
    static bool is_name(const std::string& path);

    /// The info of the parts, with the sources of the index.
    const TokenStoreInfo& info() const { return info_; }
    Dtype dtype() const override { return parts_.front().file->dtype(); }
    int64_t num_tokens() const override { return left_out_ ? left_out_->num_tokens() : part_tokens_; }
    int64_t num_documents() const override { return left_out_ ? left_out_->num_documents() : part_documents_; }
    int64_t documents_left_out() const override { return part_documents_ - num_documents(); }
    int64_t document_offset(int64_t d) const override;
    void read(int64_t first, int64_t count, int32_t* out) const override;
    std::string checksums() const override;
    std::vector<std::string> other_files() const override;
    void verify() const override;

  private:
    struct Part {
        std::string path;
        std::unique_ptr<Hdf5Tokens> file;
        int64_t first_token, first_document;
    };

    /// As document_offset() and read(), of all documents in the parts, those that are left out among them.
    int64_t part_offset(int64_t d) const;
    void read_parts(int64_t first, int64_t count, int32_t* out) const;

    std::vector<Part> parts_;
    TokenStoreInfo info_;
    int64_t part_tokens_ = 0, part_documents_ = 0;
    std::unique_ptr<LeftOut> left_out_;
};

/// Writes the index of these existing parts, and of the list of what is left out of them, if any (LeftOut; empty:
/// none). UserError as for JoinedParts, and when the parts hold no tokens.
void join_parts(const std::string& path, const std::vector<std::string>& parts, const std::string& sources,
                const std::string& left_out = "");

}  // namespace ballast::data
