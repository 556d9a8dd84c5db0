// Our HDF5 files: token stores and checkpoints. They are plain HDF5 that h5py opens: one contiguous dataset per tensor,
// and attributes on the root group. HDF5 itself has checksums of its metadata. In addition, each dataset has a checksum
// of its data in the attribute "xxh3_64": 16 hexadecimal digits of XXH3-64 over the stored little-endian bytes. bf16
// and fp16 are stored as u16 with the attribute dtype = "bf16" or "fp16".
//
// Distributions build libhdf5 without thread safety, so one lock serialises all calls made here. Memory from
// Hdf5Reader::map() needs no lock: loops over tokens should use that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace ballast {

struct Hdf5Dataset {
    Dtype dtype;
    std::vector<int64_t> shape;

    int64_t numel() const;
};

/// Writes PATH.tmp-1; commit() makes it PATH (see AtomicFile). UserError when the disk refuses.
class Hdf5Writer {
  public:
    explicit Hdf5Writer(std::string path);
    ~Hdf5Writer();  // without commit(): the temporary is removed
    Hdf5Writer(const Hdf5Writer&) = delete;
    Hdf5Writer& operator=(const Hdf5Writer&) = delete;

    /// A whole dataset at once. `name` may be a path ("model/weight"); groups are made as needed.
    void write(const std::string& name, Dtype dtype, std::span<const int64_t> shape, const void* data);

    /// Makes a dataset to be filled in pieces: append() takes consecutive elements in row-major order. All elements
    /// must have been appended before commit().
    void create(const std::string& name, Dtype dtype, std::span<const int64_t> shape);
    void append(const std::string& name, const void* data, int64_t count);

    /// Attributes of the root group; setting one again replaces it. Text is limited to 60000 bytes: longer text is a
    /// u8 dataset.
    void set_attribute(const std::string& name, const std::string& value);
    void set_attribute(const std::string& name, int64_t value);
    void set_attribute(const std::string& name, double value);

    void commit();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Reads any HDF5 file with datasets of our element types. UserError, naming the file and the dataset, for a missing,
/// damaged or foreign file, an absent name, or a type other than the requested one.
class Hdf5Reader {
  public:
    explicit Hdf5Reader(std::string path);
    ~Hdf5Reader();
    Hdf5Reader(const Hdf5Reader&) = delete;
    Hdf5Reader& operator=(const Hdf5Reader&) = delete;

    bool has(const std::string& name) const;
    /// Every dataset's path without the leading '/', sorted.
    std::vector<std::string> names() const;
    Hdf5Dataset dataset(const std::string& name) const;

    /// Elements [first, first + count) in row-major order, in the stored type. Does not verify the checksum.
    void read(const std::string& name, void* out, int64_t first, int64_t count) const;
    /// The whole dataset, which must have this type and shape and match its checksum.
    void read_all(const std::string& name, Dtype dtype, std::span<const int64_t> shape, void* out) const;
    /// UserError when the data do not match the dataset's checksum, or when the dataset has no checksum.
    void verify(const std::string& name) const;
    /// The stored checksum of the dataset, not compared with the data. Empty when the dataset has none.
    std::optional<std::string> checksum(const std::string& name) const;
    /// The elements of a contiguous dataset as memory, aligned for their type, valid for this reader's life; null when
    /// there are none. UserError for a chunked dataset.
    const void* map(const std::string& name) const;

    bool has_attribute(const std::string& name) const;
    std::string string_attribute(const std::string& name) const;
    int64_t integer_attribute(const std::string& name) const;
    double real_attribute(const std::string& name) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace ballast
