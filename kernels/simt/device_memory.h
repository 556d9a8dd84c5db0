// The memory of the simulated GPU.
//
// In strict mode (Options::strict) the host cannot access it, as with a real GPU: the host faults when it touches this
// memory outside of a launch or a copy, and is_device_memory() tells whether a kernel may be given a pointer. So a
// machine without a GPU can detect programs that mix host and device memory.
#pragma once

#include <cstddef>

namespace ballast::simt {

/// Aligned to 256 bytes and without padding at the end, so that AddressSanitizer sees the end (strict: whole pages).
/// nullptr when there is not enough.
void* allocate_device_memory(size_t bytes);
void release_device_memory(void* memory) noexcept;
/// True when `p` is in such memory; always true unless strict.
bool is_device_memory(const void* p);

/// While such an object exists, the process can access device memory: all of it, or the allocation that contains `p`.
class DeviceAccess {
  public:
    DeviceAccess() : DeviceAccess(nullptr) {}
    explicit DeviceAccess(const void* p);
    ~DeviceAccess();
    DeviceAccess(const DeviceAccess&) = delete;
    DeviceAccess& operator=(const DeviceAccess&) = delete;

  private:
    const void* p_;
};

}  // namespace ballast::simt
