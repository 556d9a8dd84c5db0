// Documents of tokens on a disk, whatever files they are in.
#pragma once

#include <cstdint>
#include <string>

#include "base/dtype.h"

namespace ballast::data {

/// Read-only and mapped. Any thread may read.
class TokenSource {
  public:
    virtual ~TokenSource() = default;

    /// What tokens are stored as: u16, u32 or i32.
    virtual Dtype dtype() const = 0;
    virtual int64_t num_tokens() const = 0;
    virtual int64_t num_documents() const = 0;
    /// Tokens before document d; d = num_documents(): all of them.
    virtual int64_t document_offset(int64_t d) const = 0;
    /// Copies tokens [first, first + count), which are there, and does not look at them.
    virtual void read(int64_t first, int64_t count, int32_t* out) const = 0;
    /// What the files say of their content beside its size, equal for equal content; nothing is read for it.
    virtual std::string checksums() const { return ""; }
    /// UserError when what is there does not match the checksums.
    virtual void verify() const {}
};

}  // namespace ballast::data
