// Context: the device, threads and scratch memory that ops run with. The model passes it on and does not look inside.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"

struct CUstream_st;  // CUDA's own name

namespace ballast {

/// `simt` runs the CUDA kernels on the CPU, for tests. A build has the CPU and at most one of the other devices.
enum class Device { cpu, cuda, simt };

/// "cpu", "cuda", "simt"
std::string_view name_of(Device device);
/// True when this build has the backend.
bool is_built(Device device);

/// A CUDA stream; unused on the CPU.
using GpuStream = CUstream_st*;

class Communicator;

namespace cuda {
class GpuCommunicator;
class GpuState;
}  // namespace cuda

/// The GEMM that the CPU kernels use. `automatic`: oneDNN, with bf16 products only where they are faster. `reference`:
/// our plain GEMM with a fixed order of additions, whose bits are the same on every processor (golden values, f64).
enum class Gemm { automatic, reference };

/// The kernels for attention with 16-bit types on a GPU. `mma`: mma.sync, for sm_80 and later. `wgmma`: TMA and wgmma,
/// for sm_90a only. `automatic`: wgmma where the device has it and its results, tested on first use, agree with those
/// of mma.sync; else mma.sync. A call that the chosen kernels do not support runs on mma.sync.
enum class AttentionKernels { automatic, mma, wgmma };

/// Memory on the context's device, aligned to 64 bytes. Large buffers ask for transparent huge pages.
class DeviceBuffer {
  public:
    DeviceBuffer() = default;
    /// UserError with the size when the allocation fails. The contents are zero.
    DeviceBuffer(Device device, size_t bytes);
    ~DeviceBuffer();
    DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
    DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
        swap(other);
        return *this;
    }

    void* data() const { return data_; }
    size_t bytes() const { return bytes_; }

  private:
    void swap(DeviceBuffer& other) noexcept;

    Device device_ = Device::cpu;
    void* data_ = nullptr;
    size_t bytes_ = 0;
};

/// Host memory for queued copies. It is page-locked when the device is a GPU.
class HostBuffer {
  public:
    HostBuffer(Device device, size_t bytes);
    ~HostBuffer();
    HostBuffer(const HostBuffer&) = delete;
    HostBuffer& operator=(const HostBuffer&) = delete;

    template <class T>
    std::span<T> as() const {
        return {static_cast<T*>(data_), bytes_ / sizeof(T)};
    }

  private:
    Device device_;
    void* data_ = nullptr;
    size_t bytes_;
};

/// Scratch memory of the ops, allocated and released in stack order within one op. Its size is planned: every op with
/// scratch has an `_scratch_bytes` function in ops.h, and the model reserves the largest size before step 0.
class Scratch {
  public:
    explicit Scratch(Device device) : device_(device) {}
    /// Grows the scratch to at least `bytes` in total. The memory may move, so call this between ops.
    void reserve(size_t bytes);
    size_t capacity() const { return buffer_.bytes(); }
    const void* address() const { return buffer_.data(); }

    /// Allocates a block for the lifetime of the returned object. Grows the scratch itself when no block is allocated.
    class Block {
      public:
        Block(Scratch& owner, size_t bytes);
        ~Block();
        Block(const Block&) = delete;
        Block& operator=(const Block&) = delete;
        void* data() const { return data_; }

      private:
        Scratch& owner_;
        size_t mark_;
        void* data_;
    };

  private:
    Device device_;
    DeviceBuffer buffer_;
    size_t used_ = 0;
};

class Context {
  public:
    /// `num_threads` 0 takes every core available. UserError when this build or this machine lacks the device.
    explicit Context(Device device = Device::cpu, int num_threads = 0, Gemm gemm = Gemm::automatic);
    ~Context();

    Device device() const { return device_; }
    Gemm gemm() const { return gemm_; }
    AttentionKernels attention_kernels() const { return attention_kernels_; }
    void set_attention_kernels(AttentionKernels kernels) { attention_kernels_ = kernels; }
    /// The largest number of rows whose logits a GPU holds at once in linear_cross_entropy(); 0: as many as fit in a
    /// GiB of f32.
    int64_t loss_rows() const { return loss_rows_; }
    void set_loss_rows(int64_t rows) { loss_rows_ = rows; }
    ThreadPool& pool() { return pool_; }
    Scratch& scratch() { return scratch_; }
    /// The GPU backend's state of this context; only on a GPU.
    cuda::GpuState& gpu() const { return *gpu_; }
    /// The stream of all GPU work of this context.
    GpuStream stream() const;

    /// Connects this context to the other ranks' contexts, so that collectives work on GPU tensors
    /// (kernels/collectives.h). On CUDA it uses NCCL, which allocates buffers of its own. Collective. `ranks` must
    /// outlive this object. Does nothing on the CPU and for one rank. UserError when two ranks have the same GPU.
    void connect(Communicator& ranks);
    /// The result of connect(); only on a GPU.
    cuda::GpuCommunicator& gpu_communicator() const;
    /// A second context on the same device with its own queue and the same connection. On the CPU it has one thread.
    /// It must not be used for linear layers.
    std::unique_ptr<Context> second_queue() const;
    /// Queued. Later work of this context waits for the earlier work of `other`, which is on the same device. Does
    /// nothing on the CPU, where work is done when a call returns.
    void queue_wait_for(const Context& other) const;

    /// Bytes that can be allocated on the device at the moment.
    size_t available_memory() const;
    DeviceBuffer allocate(size_t bytes) const { return DeviceBuffer(device_, bytes); }
    /// To be called when memory that ops used before is replaced by other memory. Recorded work that contains its
    /// address is then recorded again (Recording).
    void memory_was_replaced() { ++replacements_; }
    int64_t replacements() const { return replacements_; }
    /// The only ways for the host to read or write a tensor. The tensor must be contiguous and the sizes must match.
    void copy_to_host(void* host, const Tensor& tensor) const;
    void copy_from_host(const Tensor& tensor, const void* host) const;
    /// The values of an f32 or f64 tensor, as floats.
    std::vector<float> read_floats(const Tensor& tensor) const;
    void zero(const Tensor& tensor) const;
    /// Queued copies of the whole tensor. Do not touch `host` until synchronise().
    template <class T>
    void queue_copy_to_host(std::span<T> host, const Tensor& tensor) const {
        queue_copy(host.data(), host.size_bytes(), tensor, true);
    }
    template <class T>
    void queue_copy_from_host(const Tensor& tensor, std::span<T> host) const {
        queue_copy(host.data(), host.size_bytes(), tensor, false);
    }
    /// Waits until all queued work is done.
    void synchronise() const;

  private:
    Context(const Context& first, int num_threads);
    void queue_copy(void* host, size_t bytes, const Tensor& tensor, bool to_host) const;

    Device device_;
    Gemm gemm_;
    AttentionKernels attention_kernels_ = AttentionKernels::automatic;
    int64_t loss_rows_ = 0;
    ThreadPool pool_;
    std::unique_ptr<cuda::GpuState> gpu_;  // declared before the memory: it outlives the queued work
    std::shared_ptr<cuda::GpuCommunicator> gpu_communicator_;
    Scratch scratch_;
    int64_t replacements_ = 0;
};

}  // namespace ballast
