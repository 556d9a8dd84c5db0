#include "base/error.h"
#include "kernels/cuda/runtime.h"

namespace ballast::cuda {
namespace {

[[noreturn]] void absent() { throw InternalError("this build has no GPU backend"); }

}  // namespace

Device built_device() { return Device::cpu; }
int num_devices() { return 0; }
void use_device(int) { absent(); }
std::string why_unusable() { absent(); }
std::string description() { absent(); }
std::unique_ptr<GpuState> make_state(bool) { absent(); }
void* allocate(size_t) { absent(); }
void release(void*) noexcept {}
void copy_to_host(void*, const void*, size_t, GpuStream) { absent(); }
void copy_from_host(void*, const void*, size_t, GpuStream) { absent(); }
std::unique_ptr<Graph> record(GpuStream, const std::function<void()>&) { absent(); }
void push_range(const char*) { absent(); }
void pop_range() { absent(); }
void* allocate_host(size_t) { absent(); }
void release_host(void*) noexcept {}
void queue_copy(void*, const void*, size_t, GpuStream) { absent(); }
void synchronise(GpuStream) { absent(); }
void copy_on_device(void*, const void*, size_t, GpuStream) { absent(); }
DeviceMemory device_memory() { absent(); }
std::unique_ptr<Stopwatch> make_stopwatch() { absent(); }
void synchronise() { absent(); }
bool is_reachable(const void*) { absent(); }
void zero(void*, size_t, GpuStream) { absent(); }

}  // namespace ballast::cuda
