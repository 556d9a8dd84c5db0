// Linear layers on matrices that are already in the accumulation dtype, shared by linear and linear_cross_entropy.
#pragma once

#include "kernels/context.h"

namespace ballast::cpu {

/// Stack of temporaries inside one scratch block.
class ScratchCarver {
  public:
    explicit ScratchCarver(void* data) : next_(static_cast<char*>(data)) {}
    void* take(size_t bytes) {
        void* piece = next_;
        next_ += padded(bytes);
        return piece;
    }
    static constexpr size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

  private:
    char* next_;
};

/// `x` in its accumulation dtype: itself, or a bf16 tensor widened into memory from `scratch`.
Tensor widened(Context&, const Tensor& x, ScratchCarver& scratch);
/// What widened() takes from the scratch memory.
size_t widened_bytes(Dtype dtype, int64_t count);

}  // namespace ballast::cpu
