// The MLP's two linear layers with the GELU between them as an epilogue of their products (epilogue.h).
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/ops.h"

namespace ballast::cpu {

void linear_gelu_forward(Context& context, const Tensor& out, const Tensor& pre, const Tensor& x, const Tensor& weight,
                         const Tensor& bias, Gelu kind) {
    const int64_t rows = x.dim(0), inputs = x.dim(1), features = weight.dim(0);
    const Dtype product = product_dtype(context, x.dtype);
    const size_t bytes = linear_scratch_bytes(context, x.dtype, rows, features, inputs);
    const Scratch::Block block(context.scratch(), bytes);
    ScratchCarver scratch(block.data(), bytes);
    const ProductOutput c(out, product, scratch);
    gemm(context, {.dtype = product,
                   .m = rows,
                   .n = features,
                   .k = inputs,
                   .a = {converted(context, x, product, scratch).data, inputs, 1},
                   .b = {converted(context, weight, product, scratch).data, 1, inputs},
                   .c = c.data(),
                   .bias = converted(context, bias, product, scratch).data,
                   .narrow_c = c.narrow(),
                   .epilogue = kind == Gelu::tanh ? Epilogue::gelu_tanh : Epilogue::gelu_erf,
                   .aux = pre.data,
                   .aux_dtype = pre.dtype});
    c.finish(context);
}

void gelu_linear_backward(Context& context, const Tensor& d_pre, const Tensor& d_weight, const Tensor& d_bias,
                          const Tensor& d_out, const Tensor& hidden, const Tensor& pre, const Tensor& weight,
                          Gelu kind) {
    const int64_t rows = pre.dim(0), features = pre.dim(1), outputs = weight.dim(0);
    const Dtype product = product_dtype(context, pre.dtype);
    {
        const size_t bytes = linear_scratch_bytes(context, pre.dtype, rows, outputs, features);
        const Scratch::Block block(context.scratch(), bytes);
        ScratchCarver scratch(block.data(), bytes);
        const ProductOutput c(d_pre, product, scratch);
        gemm(context, {.dtype = product,
                       .m = rows,
                       .n = features,
                       .k = outputs,
                       .a = {converted(context, d_out, product, scratch).data, outputs, 1},
                       .b = {converted(context, weight, product, scratch).data, features, 1},
                       .c = c.data(),
                       .narrow_c = c.narrow(),
                       .epilogue = kind == Gelu::tanh ? Epilogue::d_gelu_tanh : Epilogue::d_gelu_erf,
                       .aux = pre.data,
                       .aux_dtype = pre.dtype});
        c.finish(context);
    }
    linear_backward(context, Tensor{}, d_weight, d_bias, d_out, hidden, weight);
}

}  // namespace ballast::cpu
