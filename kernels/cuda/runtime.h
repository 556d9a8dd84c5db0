// A GPU's memory and streams, as used by the host. A build has one implementation: runtime_cuda.cpp with the CUDA
// runtime, runtime_simt.cpp with host memory, or runtime_none.cpp.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "kernels/context.h"

namespace ballast::cuda {

/// The device of this build's GPU code; Device::cpu when it has none, and then no other function here is called.
Device built_device();
/// The number of GPUs that the process may use (CUDA_VISIBLE_DEVICES); 0 when CUDA does not start.
int num_devices();
/// Selects the GPU for all threads of the process from now on; before that it is the first one. Must be called before
/// anything is allocated.
void use_device(int number);
/// The reason why the device cannot be used on this machine; empty when it can.
std::string why_unusable();
/// "SIMT executor" or the GPU's name, memory and driver.
std::string description();

/// The state of a context: its stream (never the default one) and, on CUDA, cuBLASLt with its workspace.
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

/// Recorded work that can be launched repeatedly.
class Graph {
  public:
    virtual ~Graph() = default;
    virtual void launch(GpuStream stream) = 0;
};
/// Calls `work`, which queues on `stream`, and keeps the queued work instead of running it. Reading back and allocating
/// are errors during the call.
std::unique_ptr<Graph> record(GpuStream stream, const std::function<void()>& work);

/// Gives a name, in a profiler's time line (NVTX), to the work that is queued until pop_range().
void push_range(const char* name);
void pop_range();

/// Zeroed device memory, aligned to 256 bytes. UserError with the size when there is not enough.
void* allocate(size_t bytes);
void release(void* memory) noexcept;

/// These copies are complete when they return.
void copy_to_host(void* host, const void* device, size_t bytes, GpuStream stream);
void copy_from_host(void* device, const void* host, size_t bytes, GpuStream stream);
/// Page-locked host memory, zeroed.
void* allocate_host(size_t bytes);
void release_host(void* memory) noexcept;
/// Queued: copies between the device and memory from allocate_host, in either direction.
void queue_copy(void* to, const void* from, size_t bytes, GpuStream stream);
/// Waits for everything queued on the stream.
void synchronise(GpuStream stream);
/// Queued.
void copy_on_device(void* to, const void* from, size_t bytes, GpuStream stream);
/// Waits for everything that was queued on any stream.
void synchronise();
/// True when a kernel may be given `p`. On CUDA always true: the GPU detects errors itself.
bool is_reachable(const void* p);
/// Queued.
void zero(void* device, size_t bytes, GpuStream stream);

/// The device's own memory; zeros under the executor, which has no separate memory.
struct DeviceMemory {
    size_t available = 0, total = 0;
};
DeviceMemory device_memory();

/// Measures time on the device, between the work queued before start() and before stop().
class Stopwatch {
  public:
    virtual ~Stopwatch() = default;
    virtual void start(GpuStream stream) = 0;
    /// Waits for the end. Returns seconds.
    virtual double stop(GpuStream stream) = 0;
};
std::unique_ptr<Stopwatch> make_stopwatch();

}  // namespace ballast::cuda
