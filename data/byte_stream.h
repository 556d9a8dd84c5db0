// Bytes of a file in order, decompressed on the way.
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

    /// Fills `out` with up to `capacity` > 0 bytes; 0 means the end. UserError when the file cannot be read, is
    /// damaged or stops short.
    virtual size_t read(char* out, size_t capacity) = 0;

    /// Bytes of the file on disk taken so far, for progress.
    virtual int64_t file_bytes_read() const = 0;
};

/// Opens `path`, a file or a pipe; `compressed` with Zstandard (any number of frames, windows up to 2 GiB).
std::unique_ptr<ByteStream> open_byte_stream(const std::string& path, bool compressed);

}  // namespace ballast::data
