// Memory of the GPU that the executor plays.
//
// In strict mode (Options::strict) it is as far from the host as a GPU's: the host faults when it touches it outside of
// a launch or a copy, and is_device_memory() tells what a kernel may be given. That is how a program meant for a GPU is
// found to mix the two up on a machine without one.
#pragma once

#include <cstddef>

namespace ballast::simt {

/// Aligned to 256 bytes and not one byte more, so that AddressSanitizer sees the end (strict: whole pages). nullptr
/// when there is not enough.
void* allocate_device_memory(size_t bytes);
void release_device_memory(void* memory) noexcept;
/// Whether `p` is in such memory; always true unless strict.
bool is_device_memory(const void* p);

/// While one lives, the process can touch the device's memory: all of it, or the allocation that `p` is in.
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
