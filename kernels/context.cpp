#include "kernels/context.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <utility>

namespace ballast {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

DeviceBuffer::DeviceBuffer(Device device, size_t bytes) : device_(device), bytes_(bytes) {
    if (bytes == 0) return;
    const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    const size_t size = round_up(bytes, alignment);
    data_ = std::aligned_alloc(alignment, size);
    if (data_ == nullptr)
        throw UserError(
            fmt::format("cannot allocate {:.2f} GiB of memory; lower the batch size, the sequence length or the model",
                        static_cast<double>(bytes) / (1 << 30)));
    if (alignment == kHugePage) madvise(data_, size, MADV_HUGEPAGE);  // page faults on temporaries cost half the speed
    std::memset(data_, 0, size);
}

DeviceBuffer::~DeviceBuffer() { std::free(data_); }

void DeviceBuffer::swap(DeviceBuffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
}

void Scratch::reserve(size_t bytes) {
    require(used_ == 0, "scratch memory cannot grow while an op uses it");
    if (bytes > buffer_.bytes()) buffer_ = DeviceBuffer(device_, round_up(bytes, kAlignment));
}

Scratch::Block::Block(Scratch& owner, size_t bytes) : owner_(owner), mark_(owner.used_) {
    const size_t size = round_up(bytes, kAlignment);
    if (owner.used_ == 0) owner.reserve(size);
    require(owner.used_ + size <= owner.buffer_.bytes(), "an op needs more scratch memory than it planned");
    data_ = static_cast<char*>(owner.buffer_.data()) + owner.used_;
    owner.used_ += size;
}

Scratch::Block::~Block() { owner_.used_ = mark_; }

Context::Context(Device device, int num_threads, Gemm gemm)
    : device_(device), gemm_(gemm), pool_(num_threads), scratch_(device) {}

void Context::copy_to_host(void* host, const Tensor& tensor) const {
    require(tensor.is_contiguous(), "copy of a strided tensor");
    std::memcpy(host, tensor.data, tensor.bytes());
}

std::vector<float> Context::read_floats(const Tensor& tensor) const {
    const auto count = static_cast<size_t>(tensor.numel());
    if (tensor.dtype == Dtype::f32) {
        std::vector<float> out(count);
        copy_to_host(out.data(), tensor);
        return out;
    }
    require(tensor.dtype == Dtype::f64, "only f32 and f64 are read as floats");
    std::vector<double> wide(count);
    copy_to_host(wide.data(), tensor);
    return {wide.begin(), wide.end()};
}

void Context::copy_from_host(const Tensor& tensor, const void* host) const {
    require(tensor.is_contiguous(), "copy into a strided tensor");
    std::memcpy(tensor.data, host, tensor.bytes());
}

void Context::zero(const Tensor& tensor) const {
    require(tensor.is_contiguous(), "zero of a strided tensor");
    std::memset(tensor.data, 0, tensor.bytes());
}

}  // namespace ballast
