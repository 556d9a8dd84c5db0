// A GPU's memory and queues, as the host uses them. A build has one implementation: runtime_cuda.cpp on the CUDA
// runtime, runtime_simt.cpp on the host's own memory, or runtime_none.cpp.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/context.h"

namespace ballast::cuda {

/// The device this build's GPU code runs on; Device::cpu when it has none, and then the rest is never called.
Device built_device();
/// GPUs of this machine that the process may use (CUDA_VISIBLE_DEVICES); 0 where CUDA does not start.
int num_devices();
/// Which of them all threads of the process work on from now on; the first before. To be called before anything is
/// allocated.
void use_device(int number);
/// Why the device cannot be used on this machine; empty when it can.
std::string why_unusable();
/// "SIMT executor" or the GPU's name, memory and driver.
std::string description();

/// What a context keeps: its stream (never the default one) and, on CUDA, cuBLASLt with its workspace.
class GpuState {
  public:
    virtual ~GpuState() = default;
    virtual GpuStream stream() const = 0;
    /// Queued: what this stream gets from now on waits for what `other` has got so far. A recording of other's work
    /// then takes in this stream's too, until other waits for this one in turn.
    virtual void queue_wait_for(GpuState& other) = 0;
};
/// Without `products` no matrices can be multiplied, and no workspace is kept for that.
std::unique_ptr<GpuState> make_state(bool products = true);

/// Recorded work, to be launched again and again.
class Graph {
  public:
    virtual ~Graph() = default;
    virtual void launch(GpuStream stream) = 0;
};
/// Calls `work`, which queues on `stream`, and keeps what it queued instead of doing it. Reading back and allocating are
/// errors meanwhile.
std::unique_ptr<Graph> record(GpuStream stream, const std::function<void()>& work);

/// Names what is queued until pop_range() for a profiler's time line (NVTX).
void push_range(const char* name);
void pop_range();

/// Zeroed device memory, aligned to 256 bytes. UserError with the size when there is not enough.
void* allocate(size_t bytes);
void release(void* memory) noexcept;

/// Copies are complete when they return.
void copy_to_host(void* host, const void* device, size_t bytes, GpuStream stream);
void copy_from_host(void* device, const void* host, size_t bytes, GpuStream stream);
/// Page-locked host memory, zeroed.
void* allocate_host(size_t bytes);
void release_host(void* memory) noexcept;
/// Queued: between the device and memory from allocate_host, either way.
void queue_copy(void* to, const void* from, size_t bytes, GpuStream stream);
/// Waits for everything queued on the stream.
void synchronise(GpuStream stream);
/// Queued.
void copy_on_device(void* to, const void* from, size_t bytes, GpuStream stream);
/// Waits for everything that was queued on any stream.
void synchronise();
/// Whether a kernel may be given `p`. On CUDA always true: the GPU finds out itself.
bool is_reachable(const void* p);
/// Queued.
void zero(void* device, size_t bytes, GpuStream stream);

/// The device's own memory; zeros under the executor, which has none.
struct DeviceMemory {
    size_t available = 0, total = 0;
};
DeviceMemory device_memory();

/// Time as the device sees it, between what was queued before start() and before stop().
class Stopwatch {
  public:
    virtual ~Stopwatch() = default;
    virtual void start(GpuStream stream) = 0;
    /// Waits for the end. Seconds.
    virtual double stop(GpuStream stream) = 0;
};
std::unique_ptr<Stopwatch> make_stopwatch();

}  // namespace ballast::cuda
