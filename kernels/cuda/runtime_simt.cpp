#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "kernels/cuda/runtime.h"

namespace ballast::cuda {
namespace {

/// A launch is over when it returns, so nothing is ever queued.
class SimtState : public GpuState {
  public:
    GpuStream stream() const override { return nullptr; }
};

}  // namespace

Device built_device() { return Device::simt; }
std::string why_unusable() { return ""; }
std::string description() { return "the CUDA kernels on the CPU, for tests"; }

std::unique_ptr<GpuState> make_state() { return std::make_unique<SimtState>(); }

void* allocate(size_t bytes) {
    // Not rounded up: AddressSanitizer is to see the end. Launches finish before they return, so nothing waits here.
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes) != 0) throw UserError("not enough memory for the SIMT executor");
    std::memset(memory, 0, bytes);
    return memory;
}

void release(void* memory) noexcept { std::free(memory); }

void copy_to_host(void* host, const void* device, size_t bytes, GpuStream) { std::memcpy(host, device, bytes); }
void copy_from_host(void* device, const void* host, size_t bytes, GpuStream) { std::memcpy(device, host, bytes); }
void zero(void* device, size_t bytes, GpuStream) { std::memset(device, 0, bytes); }

}  // namespace ballast::cuda
