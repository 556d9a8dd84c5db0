// One planned block of memory for many tensors. Run the same layout function twice: first to measure, then to place.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>

#include "base/tensor.h"

namespace ballast {

class Arena {
  public:
    /// Measures only: the tensors it returns have no memory.
    Arena() = default;
    /// Places tensors at `base`, which must hold at least `capacity` bytes and be aligned to 64.
    Arena(void* base, size_t capacity) : base_(static_cast<char*>(base)), capacity_(capacity) {}

    Tensor tensor(Dtype dtype, std::initializer_list<int64_t> shape) {
        Tensor out(base_ ? base_ + used_ : nullptr, dtype, shape);
        used_ += (out.bytes() + kAlignment - 1) / kAlignment * kAlignment;
        peak_ = std::max(peak_, used_);
        require(base_ == nullptr || used_ <= capacity_, "the arena is smaller than its plan");
        return out;
    }

    /// Bytes taken now. rewind(mark()) releases every tensor that was taken since; temporaries can then share memory.
    size_t mark() const { return used_; }
    void rewind(size_t mark) { used_ = mark; }
    /// The largest number of bytes that were taken at one time.
    size_t peak_bytes() const { return peak_; }

  private:
    static constexpr size_t kAlignment = 64;
    char* base_ = nullptr;
    size_t capacity_ = 0;
    size_t used_ = 0;
    size_t peak_ = 0;
};

}  // namespace ballast
