// NumPy's .npy files of integers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/mapped_file.h"

namespace ballast::data {

/// The file is mapped, so that the processes of a machine share its pages. Formats 1.0 to 3.0: magic, length of the
/// header, a Python dictionary with descr, fortran_order and shape, then the elements (numpy/lib/format.py).
class NpyFile {
  public:
    /// UserError unless the file holds i32, u32 or i64, little-endian and in C order, with exactly as many elements as
    /// its shape says.
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
    const std::byte* elements_ = nullptr;  // may be unaligned
};

/// Writes an array of u16 or i32, with the same bytes as numpy.save().
void write_npy(const std::string& path, Dtype dtype, const std::vector<int64_t>& shape, const void* elements);

}  // namespace ballast::data
