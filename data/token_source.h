// Documents of tokens on disk, in any file format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace ballast::data {

/// Read-only and mapped. Any thread may read.
class TokenSource {
  public:
    virtual ~TokenSource() = default;

    /// The type in which tokens are stored: u16, u32 or i32.
    virtual Dtype dtype() const = 0;
    virtual int64_t num_tokens() const = 0;
    virtual int64_t num_documents() const = 0;
    /// The number of tokens before document d; for d = num_documents(), of all tokens.
    virtual int64_t document_offset(int64_t d) const = 0;
    /// Documents in the files that are passed over because they repeat another one.
    virtual int64_t documents_left_out() const { return 0; }
    /// Copies tokens [first, first + count), which must exist, without checking their values.
    virtual void read(int64_t first, int64_t count, int32_t* out) const = 0;
    /// The checksums of the contents, besides sizes; equal for equal contents. They are those that the files store, or
    /// of a sample of the contents: a corpus is not read as a whole.
    virtual std::string checksums() const { return ""; }
    /// The files that are read besides the one that was named.
    virtual std::vector<std::string> other_files() const { return {}; }
    /// UserError when the contents do not match the checksums.
    virtual void verify() const {}
};

}  // namespace ballast::data
