// Shared by linear layers and linear_cross_entropy: operands and results in the dtype of the products.
#pragma once

#include "kernels/cpu/ops.h"
#include "kernels/gemm.h"

namespace ballast::cpu {

/// Temporaries of one op, one after the other in a block of `bytes`; InternalError when the planned size is too small.
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

/// `x` in `dtype`: x itself, or a converted copy in `scratch`. An absent tensor stays absent.
Tensor converted(Context&, const Tensor& x, Dtype dtype, ScratchCarver& scratch);
/// The scratch bytes that converted() needs for `count` elements.
size_t converted_bytes(Dtype from, Dtype to, int64_t count);

/// The weight in `dtype`: the weight itself, or a converted copy, with the scales of an i8 weight applied.
Tensor converted_weight(Context&, const LinearWeight& weight, Dtype dtype, ScratchCarver& scratch);

/// linear_forward with a product that ends in `epilogue`; its aux is [N,O].
void linear_forward_to(Context&, const Tensor& out, const Tensor& x, const LinearWeight& weight, Products products,
                       Epilogue epilogue, const Tensor& aux);
/// linear_backward in which the product of d_x ends in `epilogue`; its aux is [N,I].
void linear_backward_to(Context&, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias, const Tensor& d_out,
                        const Tensor& x, const Tensor& weight, Epilogue epilogue, const Tensor& aux);

}  // namespace ballast::cpu
