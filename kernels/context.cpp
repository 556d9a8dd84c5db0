#include "kernels/context.h"

#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <utility>

#include "base/cpu_features.h"
#include "kernels/cuda/communicator.h"
#include "kernels/cuda/runtime.h"

namespace ballast {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

[[noreturn]] void refuse_memory(size_t bytes) {
    throw UserError(
        fmt::format("cannot allocate {:.2f} GiB of memory; lower the batch size, the sequence length or the model",
                    static_cast<double>(bytes) / (1 << 30)));
}

void* allocate_host(size_t bytes) {
    const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    const size_t size = round_up(bytes, alignment);
    void* data = std::aligned_alloc(alignment, size);
    if (data == nullptr) refuse_memory(bytes);
    if (alignment == kHugePage) madvise(data, size, MADV_HUGEPAGE);  // page faults on temporaries cost half the speed
    std::memset(data, 0, size);
    return data;
}

/// The device, if it can be used here.
Device usable(Device device) {
    if (!is_built(device))
        throw UserError(fmt::format("this build has no {} backend; build the {} preset, or use --backend cpu",
                                    name_of(device), name_of(device)));
    const std::string obstacle = device == Device::cpu ? "" : cuda::why_unusable();
    if (!obstacle.empty()) throw UserError(obstacle);
    return device;
}

}  // namespace

std::string_view name_of(Device device) {
    constexpr std::array<std::string_view, 3> kNames{"cpu", "cuda", "simt"};
    return kNames[static_cast<size_t>(device)];
}

bool is_built(Device device) { return device == Device::cpu || device == cuda::built_device(); }

DeviceBuffer::DeviceBuffer(Device device, size_t bytes) : device_(device), bytes_(bytes) {
    if (bytes == 0) return;
    data_ = device == Device::cpu ? allocate_host(bytes) : cuda::allocate(bytes);
}

DeviceBuffer::~DeviceBuffer() {
    if (device_ == Device::cpu)
        std::free(data_);
    else
        cuda::release(data_);
}

void DeviceBuffer::swap(DeviceBuffer& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
}

HostBuffer::HostBuffer(Device device, size_t bytes)
    : device_(device),
      data_(device == Device::cpu ? allocate_host(bytes) : cuda::allocate_host(bytes)),
      bytes_(bytes) {}

HostBuffer::~HostBuffer() {
    if (device_ == Device::cpu)
        std::free(data_);
    else
        cuda::release_host(data_);
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
    : device_(usable(device)),
      gemm_(gemm),
      pool_(num_threads),
      gpu_(device == Device::cpu ? nullptr : cuda::make_state()),
      scratch_(device) {}

Context::Context(const Context& first, int num_threads)
    : device_(first.device_),
      gemm_(first.gemm_),
      pool_(num_threads),
      gpu_(device_ == Device::cpu ? nullptr : cuda::make_state(false)),
      gpu_communicator_(first.gpu_communicator_),
      scratch_(device_) {}

Context::~Context() = default;

void Context::connect(Communicator& ranks) {
    if (device_ != Device::cpu && ranks.size() > 1) gpu_communicator_ = cuda::make_gpu_communicator(ranks);
}

cuda::GpuCommunicator& Context::gpu_communicator() const {
    require(gpu_communicator_ != nullptr, "a context that no rank was connected to");
    return *gpu_communicator_;
}

std::unique_ptr<Context> Context::second_queue() const { return std::unique_ptr<Context>(new Context(*this, 1)); }

void Context::queue_wait_for(const Context& other) const {
    if (device_ != Device::cpu) gpu_->queue_wait_for(*other.gpu_);
}

GpuStream Context::stream() const { return gpu_->stream(); }

size_t Context::available_memory() const {
    return device_ == Device::cuda ? cuda::device_memory().available : static_cast<size_t>(memory_size().available);
}

void Context::copy_to_host(void* host, const Tensor& tensor) const {
    require(tensor.is_contiguous(), "copy of a strided tensor");
    if (device_ != Device::cpu) return cuda::copy_to_host(host, tensor.data, tensor.bytes(), stream());
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
    if (device_ != Device::cpu) return cuda::copy_from_host(tensor.data, host, tensor.bytes(), stream());
    std::memcpy(tensor.data, host, tensor.bytes());
}

void Context::queue_copy(void* host, size_t bytes, const Tensor& tensor, bool to_host) const {
    require(tensor.is_contiguous() && tensor.bytes() == bytes, "a queued copy of another size");
    void *to = to_host ? host : tensor.data, *from = to_host ? tensor.data : host;
    if (device_ != Device::cpu) return cuda::queue_copy(to, from, bytes, stream());
    std::memcpy(to, from, bytes);
}

void Context::synchronise() const {
    if (device_ != Device::cpu) cuda::synchronise(stream());
}

void Context::zero(const Tensor& tensor) const {
    require(tensor.is_contiguous(), "zero of a strided tensor");
    if (device_ != Device::cpu) return cuda::zero(tensor.data, tensor.bytes(), stream());
    std::memset(tensor.data, 0, tensor.bytes());
}

}  // namespace ballast
