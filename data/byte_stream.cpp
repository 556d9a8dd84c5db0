#include "data/byte_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <cerrno>
#include <vector>

#include "base/error.h"

namespace ballast::data {
namespace {

class PlainStream final : public ByteStream {
  public:
    explicit PlainStream(std::string path) : path_(std::move(path)) {
        descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor_ < 0) throw_errno("open", path_);
    }
    ~PlainStream() override { ::close(descriptor_); }

    size_t read(char* out, size_t capacity) override {
        ssize_t got;
        do {
            got = ::read(descriptor_, out, capacity);
        } while (got < 0 && errno == EINTR);
        if (got < 0) throw_errno("read", path_);
        bytes_read_ += got;
        return static_cast<size_t>(got);
    }
    int64_t file_bytes_read() const override { return bytes_read_; }

  private:
    std::string path_;
    int descriptor_ = -1;
    int64_t bytes_read_ = 0;
};

class ZstdStream final : public ByteStream {
  public:
    explicit ZstdStream(const std::string& path)
        : path_(path), file_(path), context_(ZSTD_createDStream(), &ZSTD_freeDStream), buffer_(ZSTD_DStreamInSize()) {
        require(context_ != nullptr, "zstd gave no context");
        // What zstd --long=31 writes; the memory is taken only for files that need it.
        ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, 31);
    }

    size_t read(char* out, size_t capacity) override {
        ZSTD_outBuffer output{out, capacity, 0};
        while (output.pos == 0) {
            if (input_.pos == input_.size && !output_pending_ && !refill()) return 0;
            const size_t result = ZSTD_decompressStream(context_.get(), &output, &input_);
            if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation)
                throw RunError(
                    fmt::format("{}: no memory for its Zstandard window; compress it again without --long", path_));
            if (ZSTD_isError(result))
                throw UserError(fmt::format("{}: damaged Zstandard data: {}", path_, ZSTD_getErrorName(result)));
            frame_open_ = result != 0;
            // The decoder may hold more than fitted; not after a frame's end, where it would ask for the next frame.
            output_pending_ = frame_open_ && output.pos == output.size;
        }
        return output.pos;
    }
    int64_t file_bytes_read() const override { return file_.file_bytes_read(); }

  private:
    bool refill() {
        input_ = {buffer_.data(), file_.read(buffer_.data(), buffer_.size()), 0};
        if (input_.size == 0 && frame_open_)
            throw UserError(fmt::format("{}: ends in the middle of Zstandard data; the file is truncated", path_));
        return input_.size != 0;
    }

    std::string path_;
    PlainStream file_;
    std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> context_;
    std::vector<char> buffer_;
    ZSTD_inBuffer input_{nullptr, 0, 0};
    bool frame_open_ = false, output_pending_ = false;
};

}  // namespace

std::unique_ptr<ByteStream> open_byte_stream(const std::string& path, bool compressed) {
    if (compressed) return std::make_unique<ZstdStream>(path);
    return std::make_unique<PlainStream>(path);
}

}  // namespace ballast::data
