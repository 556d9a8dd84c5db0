// NumPy's .npy files of whole numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/mapped_file.h"

namespace ballast::data {

/// Mapped, so that processes of one machine share its pages. Format 1.0 to 3.0: magic, length of the header, a Python
/// dictionary of descr, fortran_order and shape, and the elements (numpy/lib/format.py).
class NpyFile {
  public:
    /// UserError unless it holds i32, u32 or i64, little-endian, in C's order, as many as its shape says and no byte
    /// more.
    explicit NpyFile(const std::string& path);

    const std::string& path() const { return file_.path(); }
    Dtype dtype() const { return dtype_; }
    const std::vector<int64_t>& shape() const { return shape_; }
    int64_t numel() const { return numel_; }
    /// Element i in row-major order.
    int64_t operator[](int64_t i) const;
    /// XXH3-64 of the whole file.
    uint64_t checksum() const;

  private:
    MappedFile file_;
    Dtype dtype_ = Dtype::i32;
    std::vector<int64_t> shape_;
    int64_t numel_ = 1;
    const std::byte* elements_ = nullptr;  // aligned for nothing
};

/// Writes an array of u16 or i32 as numpy.save() does, byte for byte.
void write_npy(const std::string& path, Dtype dtype, const std::vector<int64_t>& shape, const void* elements);

}  // namespace ballast::data
