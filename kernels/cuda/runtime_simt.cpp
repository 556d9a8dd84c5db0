#include <cstdlib>
#include <cstring>

#include "base/cpu_features.h"
#include "base/error.h"
#include "kernels/cuda/runtime.h"
#include "kernels/simt/queue.h"

namespace ballast::cuda {
namespace {

/// A launch is over when it returns, so nothing is ever queued.
class SimtState : public GpuState {
  public:
    GpuStream stream() const override { return nullptr; }
};

class SimtGraph : public Graph {
  public:
    explicit SimtGraph(std::vector<std::function<void()>> work) : work_(std::move(work)) {}
    void launch(GpuStream) override {
        for (const auto& piece : work_) piece();
    }

  private:
    std::vector<std::function<void()>> work_;
};

}  // namespace

Device built_device() { return Device::simt; }
std::string why_unusable() { return ""; }
std::string description() { return "the CUDA kernels on the CPU, for tests"; }

std::unique_ptr<GpuState> make_state() { return std::make_unique<SimtState>(); }

size_t available_memory() { return static_cast<size_t>(memory_size().available); }

void* allocate(size_t bytes) {
    // Not rounded up: AddressSanitizer is to see the end. Launches finish before they return, so nothing waits here.
    simt::forbid_in_recording("allocating");
    void* memory = nullptr;
    if (posix_memalign(&memory, 256, bytes) != 0) throw UserError("not enough memory for the SIMT executor");
    std::memset(memory, 0, bytes);
    return memory;
}

void release(void* memory) noexcept { std::free(memory); }

void copy_to_host(void* host, const void* device, size_t bytes, GpuStream) {
    simt::forbid_in_recording("reading back");
    std::memcpy(host, device, bytes);
}

void copy_from_host(void* device, const void* host, size_t bytes, GpuStream) {
    simt::forbid_in_recording("a copy that is waited for");
    std::memcpy(device, host, bytes);
}

void* allocate_host(size_t bytes) { return std::calloc(1, bytes); }
void release_host(void* memory) noexcept { std::free(memory); }

void queue_copy(void* to, const void* from, size_t bytes, GpuStream) {
    simt::queue([=] { std::memcpy(to, from, bytes); });
}

void synchronise(GpuStream) { simt::forbid_in_recording("waiting"); }

void zero(void* device, size_t bytes, GpuStream) {
    simt::queue([=] { std::memset(device, 0, bytes); });
}

std::unique_ptr<Graph> record(GpuStream, const std::function<void()>& work) {
    return std::make_unique<SimtGraph>(simt::record(work));
}

void push_range(const char*) {}
void pop_range() {}

}  // namespace ballast::cuda
