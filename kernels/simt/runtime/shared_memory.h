// The shared memory of the running block: its own arena, filled with NaN before every block.
#pragma once

#include <cstddef>
#include <unordered_map>

#include "kernels/simt/options.h"

namespace ballast::simt {

class SharedMemory {
  public:
    static constexpr size_t kSize = size_t{512} << 10;

    SharedMemory();
    ~SharedMemory();
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;

    /// A new block: every byte 0xff (NaN in bf16, fp16, f32 and f64), all but `dynamic_bytes` of it poisoned for ASan.
    void reset(size_t dynamic_bytes);

    char* dynamic() const { return base_; }
    /// The static array identified by `key`; made at its first use, with poisoned surroundings.
    void* static_array(const void* key, size_t bytes, size_t alignment);
    /// The address as the hardware sees it, relative to the block's shared memory. Error when p is outside.
    unsigned offset_of(const void* p, Location where) const;

  private:
    static constexpr size_t kGuard = 1024;  // also the alignment of swizzled tiles
    char* arena_;
    char* base_;
    size_t used_ = 0;
    std::unordered_map<const void*, void*> arrays_;
};

}  // namespace ballast::simt
