// Where ops run: device, threads, scratch memory. The model passes it along and never asks what is inside.
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

/// `simt` runs the CUDA kernels on the CPU, for tests. A build has the CPU and at most one of the others.
enum class Device { cpu, cuda, simt };

/// "cpu", "cuda", "simt"
std::string_view name_of(Device device);
/// Whether this build has that backend.
bool is_built(Device device);

/// A queue of work on a GPU; nothing on the CPU.
using GpuStream = CUstream_st*;

class Communicator;

namespace cuda {
class GpuCommunicator;
class GpuState;
}  // namespace cuda

/// Which GEMM the CPU kernels use. `automatic`: oneDNN, bf16 only where it is faster. `reference`: our plain GEMM
/// with a fixed order of additions, whose bits are the same on every processor (golden values, f64).
enum class Gemm { automatic, reference };

/// Which kernels a GPU's attention runs on for 16-bit types; what a choice cannot take runs on mma.sync. `mma`:
/// mma.sync, sm_80 and later. `wgmma`: TMA and wgmma, on sm_90a only. `automatic`: wgmma where it exists and, tried on
/// first use, agrees with mma.sync; else mma.sync.
enum class AttentionKernels { automatic, mma, wgmma };

/// Memory owned on the context's device, aligned to 64 bytes (transparent huge pages asked for when large).
class DeviceBuffer {
  public:
    DeviceBuffer() = default;
    /// Throws UserError naming the size when the memory cannot be had. Contents are zero.
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

/// Memory of the host that queued copies read and write: page-locked when the device is a GPU.
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

/// Scratch memory of the ops, taken and given back in stack order within one op. Its size is planned: every op with
/// scratch has an `_scratch_bytes` function in ops.h and the model reserves the largest before step 0.
class Scratch {
  public:
    explicit Scratch(Device device) : device_(device) {}
    /// Makes room for at least `bytes` in all; may move, so call it between ops.
    void reserve(size_t bytes);
    size_t capacity() const { return buffer_.bytes(); }
    const void* address() const { return buffer_.data(); }

    /// Takes a block for the lifetime of the returned object. Reserves more by itself when nothing is taken yet.
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
    /// The most rows whose logits a GPU holds at once in linear_cross_entropy(); 0: as many as fit in a GiB of f32.
    int64_t loss_rows() const { return loss_rows_; }
    void set_loss_rows(int64_t rows) { loss_rows_ = rows; }
    ThreadPool& pool() { return pool_; }
    Scratch& scratch() { return scratch_; }
    /// What the GPU backend keeps for this context; only on a GPU.
    cuda::GpuState& gpu() const { return *gpu_; }
    /// Where the GPU's work is queued, all of this context's.
    GpuStream stream() const;

    /// Lets tensors of a GPU go to other ranks' GPUs and come from them (kernels/collectives.h): through NCCL, whose
    /// buffers take memory. Collective; `ranks` has to outlive this. Nothing on the CPU and for one rank. UserError
    /// when two ranks have the same GPU.
    void connect(Communicator& ranks);
    /// What connect() made; only on a GPU.
    cuda::GpuCommunicator& gpu_communicator() const;
    /// A queue on the same device, connected as this one; on the CPU of one thread. Not for linear layers.
    std::unique_ptr<Context> second_queue() const;
    /// Queued: what this context gets from now on waits for what `other`, on the same device, has got so far. On the
    /// CPU nothing: its work is done when a call returns.
    void queue_wait_for(const Context& other) const;

    /// Bytes that can still be allocated on the device, as things are now.
    size_t available_memory() const;
    DeviceBuffer allocate(size_t bytes) const { return DeviceBuffer(device_, bytes); }
    /// To be called where memory that ops were given before is replaced by other memory: recorded work that holds its
    /// address is then recorded anew (Recording).
    void memory_was_replaced() { ++replacements_; }
    int64_t replacements() const { return replacements_; }
    /// The host's only ways to a tensor's contents. The tensor must be contiguous; sizes must match.
    void copy_to_host(void* host, const Tensor& tensor) const;
    void copy_from_host(const Tensor& tensor, const void* host) const;
    /// The values of an f32 or f64 tensor, as floats.
    std::vector<float> read_floats(const Tensor& tensor) const;
    void zero(const Tensor& tensor) const;
    /// Queued copies of the whole tensor: `host` must be left alone until synchronise().
    template <class T>
    void queue_copy_to_host(std::span<T> host, const Tensor& tensor) const {
        queue_copy(host.data(), host.size_bytes(), tensor, true);
    }
    template <class T>
    void queue_copy_from_host(const Tensor& tensor, std::span<T> host) const {
        queue_copy(host.data(), host.size_bytes(), tensor, false);
    }
    /// Waits for everything that was queued.
    void synchronise() const;

  private:
    Context(const Context& first, int num_threads);
    void queue_copy(void* host, size_t bytes, const Tensor& tensor, bool to_host) const;

    Device device_;
    Gemm gemm_;
    AttentionKernels attention_kernels_ = AttentionKernels::automatic;
    int64_t loss_rows_ = 0;
    ThreadPool pool_;
    std::unique_ptr<cuda::GpuState> gpu_;  // before the memory: it outlives what is queued
    std::shared_ptr<cuda::GpuCommunicator> gpu_communicator_;
    Scratch scratch_;
    int64_t replacements_ = 0;
};

}  // namespace ballast
