// What linear layers and linear_cross_entropy share: operands and results in the dtype the products run in.
#pragma once

#include "kernels/context.h"

namespace ballast::cpu {

/// Temporaries of one op, one after the other in a block of `bytes`; a plan that is too small is an InternalError.
class ScratchCarver {
  public:
    ScratchCarver(void* data, size_t bytes) : next_(static_cast<char*>(data)), end_(next_ + bytes) {}
    void* take(size_t bytes) {
        void* piece = next_;
        require(padded(bytes) <= static_cast<size_t>(end_ - next_), "an op needs more scratch memory than it planned");
        next_ += padded(bytes);
        return piece;
    }
    static constexpr size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

  private:
    char *next_, *end_;
};

/// `x` in `dtype`: itself, or converted into memory from `scratch`. An absent tensor stays absent.
Tensor converted(Context&, const Tensor& x, Dtype dtype, ScratchCarver& scratch);
/// What converted() takes from the scratch memory for `count` elements.
size_t converted_bytes(Dtype from, Dtype to, int64_t count);

/// C of a product is in the accumulation dtype or, where the products are native bf16, in bf16. Anything else goes
/// through scratch memory and finish().
class ProductOutput {
  public:
    ProductOutput(const Tensor& out, Dtype product, ScratchCarver& scratch);
    void* data() const { return c_.data; }
    bool narrow() const { return c_.dtype == Dtype::bf16; }
    void finish(Context& context) const;

  private:
    const Tensor& out_;
    Tensor c_;
};

}  // namespace ballast::cpu
