// A GPU's memory and queues, as the host uses them. A build has one implementation: runtime_cuda.cpp on the CUDA
// runtime, runtime_simt.cpp on the host's own memory, or runtime_none.cpp.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/context.h"

namespace ballast::cuda {

/// The device this build's GPU code runs on; Device::cpu when it has none, and then the rest is never called.
Device built_device();
/// Why the device cannot be used on this machine; empty when it can.
std::string why_unusable();
/// "SIMT executor" or the GPU's name, memory and driver.
std::string description();

/// What a context keeps: its stream (never the default one) and, on CUDA, cuBLASLt with its workspace.
class GpuState {
  public:
    virtual ~GpuState() = default;
    virtual GpuStream stream() const = 0;
};
std::unique_ptr<GpuState> make_state();

/// Zeroed device memory, aligned to 256 bytes. UserError with the size when there is not enough.
void* allocate(size_t bytes);
void release(void* memory) noexcept;

/// Copies are complete when they return.
void copy_to_host(void* host, const void* device, size_t bytes, GpuStream stream);
void copy_from_host(void* device, const void* host, size_t bytes, GpuStream stream);
/// Queued.
void zero(void* device, size_t bytes, GpuStream stream);

}  // namespace ballast::cuda
