// Reads the bytes of a file in order, with decompression.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace ballast::data {

/// A forward reader of one file. Errors are UserErrors that name the file.
class ByteStream {
  public:
    virtual ~ByteStream() = default;

    /// Reads up to `capacity` > 0 bytes into `out`; 0 means the end. UserError when the file cannot be read, is damaged
    /// or ends too early.
    virtual size_t read(char* out, size_t capacity) = 0;

    /// The bytes of the file on disk read so far, for progress.
    virtual int64_t file_bytes_read() const = 0;
};

/// Opens `path`, a file or a pipe. `compressed`: with Zstandard (any number of frames, windows up to 2 GiB).
std::unique_ptr<ByteStream> open_byte_stream(const std::string& path, bool compressed);

}  // namespace ballast::data
