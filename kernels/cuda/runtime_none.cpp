#include "base/error.h"
#include "kernels/cuda/runtime.h"

namespace ballast::cuda {
namespace {

[[noreturn]] void absent() { throw InternalError("this build has no GPU backend"); }

}  // namespace

Device built_device() { return Device::cpu; }
std::string why_unusable() { absent(); }
std::string description() { absent(); }
std::unique_ptr<GpuState> make_state() { absent(); }
void* allocate(size_t) { absent(); }
void release(void*) noexcept {}
void copy_to_host(void*, const void*, size_t, GpuStream) { absent(); }
void copy_from_host(void*, const void*, size_t, GpuStream) { absent(); }
void zero(void*, size_t, GpuStream) { absent(); }

}  // namespace ballast::cuda
