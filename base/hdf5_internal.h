// Shared by the HDF5 reader and writer, and by what makes damaged files (tests/fuzz). No other file includes this header.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/dtype.h"

namespace ballast::hdf5 {

inline constexpr const char* kChecksumAttribute = "xxh3_64";
inline constexpr const char* kDtypeAttribute = "dtype";
/// Data are checksummed and written in pieces of this size, so that a piece is still in the CPU cache for the second
/// step.
inline constexpr int64_t kSlabBytes = int64_t{4} << 20;

/// Every public call holds this lock: libhdf5 is often built without thread safety. The first lock() of each thread
/// turns off the library's own printing of errors; we throw exceptions instead.
std::unique_lock<std::mutex> lock();

/// Owns an identifier and the function that closes it.
class Handle {
  public:
    using Close = herr_t (*)(hid_t);
    Handle() = default;
    Handle(hid_t id, Close close_with) : id_(id), close_(close_with) {}
    Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
    Handle& operator=(Handle&& other) noexcept {
        std::swap(id_, other.id_);
        std::swap(close_, other.close_);
        return *this;
    }
    ~Handle() { close(); }

    hid_t get() const { return id_; }
    explicit operator bool() const { return id_ >= 0; }
    /// False when closing (hence flushing) failed.
    bool close() { return id_ < 0 || close_(std::exchange(id_, H5I_INVALID_HID)) >= 0; }

  private:
    hid_t id_ = H5I_INVALID_HID;
    Close close_ = nullptr;
};

/// The library's innermost description of what failed last, e.g. "incorrect metadata checksum"; may be empty.
std::string last_error();

/// The type in the file; borrowed, not to be closed. bf16 and fp16 are u16 there.
hid_t file_type(Dtype dtype);
/// The dtype of a type in a file. `named`, the text of the dtype attribute, tells bf16 and fp16 from u16. Empty when no
/// Dtype matches.
std::optional<Dtype> dtype_of(hid_t type, std::string_view named);

/// A dataspace of this shape with row-major elements [first, first + count) selected.
Handle select(std::span<const hsize_t> shape, hsize_t first, hsize_t count);

/// "00c1e5…": a 64-bit checksum as sixteen hexadecimal digits.
std::string to_hex(uint64_t checksum);

}  // namespace ballast::hdf5
