// An operand of wgmma in shared memory, as described by its descriptor.
#pragma once

#include <cstdint>

#include "kernels/simt/runtime/async_proxy.h"

namespace ballast::simt {

/// PTX ISA, "Matrix Descriptor Format" and "Canonical Layouts"; wgmma.cuh says it in words.
class MatrixTile {
  public:
    MatrixTile(const char* shared_memory, uint64_t descriptor, bool mn_major)
        : memory_(reinterpret_cast<uintptr_t>(shared_memory)),
          start_(field(descriptor, 0)),
          leading_(field(descriptor, 16)),
          stride_(field(descriptor, 32)),
          swizzle_(static_cast<Swizzle>((4 - (descriptor >> 62)) % 4)),
          mn_major_(mn_major) {}

    bool mn_major() const { return mn_major_; }

    /// Offset in shared memory of element (mn, k), mn being the row of A or the column of B.
    unsigned offset(unsigned mn, unsigned k) const {
        const unsigned span = swizzle_span(swizzle_);
        unsigned at = start_ + 2 * (mn_major_ ? mn % 8 : k % 8);
        if (swizzle_ == Swizzle::none)
            at += mn / 8 * stride_ + k / 8 * leading_ + 16 * (mn_major_ ? k % 8 : mn % 8);
        else if (mn_major_)
            at += mn * 2 / span * leading_ + mn * 2 % span / 16 * 16 + k / 8 * stride_ + k % 8 * span;
        else
            at += mn / 8 * stride_ + mn % 8 * span + k / 8 * 16;
        return static_cast<unsigned>(swizzled(memory_ + at, swizzle_) - memory_);
    }
    const uint16_t* at(unsigned mn, unsigned k) const {
        return reinterpret_cast<const uint16_t*>(memory_ + offset(mn, k));
    }

    /// Chunk i of the 16-byte chunks of `rows` rows of the operand, starting at row `first`; there are 2 · rows chunks.
    const uint16_t* chunk(unsigned first, unsigned i) const {
        return mn_major_ ? at(first + i / 16 * 8, i % 16) : at(first + i / 2, i % 2 * 8);
    }

  private:
    static unsigned field(uint64_t descriptor, unsigned bit) {
        return static_cast<unsigned>(descriptor >> bit & 0x3fff) << 4;
    }

    uintptr_t memory_;
    unsigned start_, leading_, stride_;
    Swizzle swizzle_;
    bool mn_major_;
};

}  // namespace ballast::simt
