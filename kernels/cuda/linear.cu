// Linear layers: products by gemm.h, the bias gradient by column_sums.cuh.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/linear.h"

#include "kernels/cuda/gemm.h"

namespace ballast::cuda {
namespace {

/// A gradient that came in the accumulation dtype is rounded before it is multiplied.
size_t narrowed_bytes(Dtype x, int64_t rows, int64_t outputs) {
    return x == accumulation_dtype(x) ? 0 : padded(static_cast<size_t>(rows * outputs) * size_of(x));
}

bool is_narrow(const Tensor& c) { return c.dtype != accumulation_dtype(c.dtype); }

}  // namespace

Dtype product_dtype(const Context&, Dtype x) { return x; }

size_t weight_bytes(Dtype x, Dtype weight, int64_t elements) {
    return x == weight ? 0 : padded(static_cast<size_t>(elements) * size_of(x));
}

Tensor converted_weight(Context& context, const LinearWeight& w, Dtype x, void* memory) {
    if (w.weight.dtype == x) return w.weight;
    Tensor numbers = w.weight;
    numbers.dtype = x;
    numbers.data = memory;
    if (w.scale.empty())
        cast(context, numbers, w.weight);
    else
        dequantise(context, numbers, w);
    return numbers;
}

size_t linear_scratch_bytes(const Context&, Dtype x, Dtype weight, int64_t rows, int64_t outputs, int64_t inputs,
                            Products products) {
    if (products == Products::by_row) return 0;
    if (x != weight) return weight_bytes(x, weight, outputs * inputs);  // forward only
    const size_t sums =
        x == Dtype::f64 ? column_sums_bytes<double>(rows, outputs) : column_sums_bytes<float>(rows, outputs);
    return narrowed_bytes(x, rows, outputs) + padded(sums);
}

void linear_forward(Context& context, const Tensor& out, const Tensor& x, const LinearWeight& weight,
                    Products products) {
    if (products == Products::by_row) return linear_by_row(context, out, x, weight);
    const int64_t rows = x.dim(0), inputs = x.dim(1), outputs = out.dim(1);
    const Scratch::Block scratch(context.scratch(), weight_bytes(x.dtype, weight.weight.dtype, outputs * inputs));
    gemm(context, {.dtype = x.dtype,
                   .m = rows,
                   .n = outputs,
                   .k = inputs,
                   .a = {x.data, inputs, 1},
                   .b = {converted_weight(context, weight, x.dtype, scratch.data()).data, 1, inputs},
                   .c = out.data,
                   .bias = weight.bias.data,
                   .narrow_c = is_narrow(out)});
}

void linear_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                     const Tensor& d_out, const Tensor& x, const Tensor& weight) {
    const int64_t rows = x.dim(0), inputs = x.dim(1), outputs = weight.dim(0);
    const Scratch::Block scratch(context.scratch(), cuda::linear_scratch_bytes(context, x.dtype, x.dtype, rows, outputs,
                                                                       inputs, Products::gemm));
    Tensor gradient = d_out;
    if (d_out.dtype != x.dtype) {
        gradient.dtype = x.dtype;
        gradient.data = scratch.data();
        cast(context, gradient, d_out);
    }
    if (!d_x.empty())
        gemm(context, {.dtype = x.dtype,
                       .m = rows,
                       .n = inputs,
                       .k = outputs,
                       .a = {gradient.data, outputs, 1},
                       .b = {weight.data, inputs, 1},
                       .c = d_x.data,
                       .narrow_c = is_narrow(d_x)});
    if (!d_weight.empty())
        gemm(context, {.dtype = x.dtype,
                       .m = outputs,
                       .n = inputs,
                       .k = rows,
                       .a = {gradient.data, 1, outputs},
                       .b = {x.data, inputs, 1},
                       .c = d_weight.data,
                       .accumulate = true});
    if (d_bias.empty()) return;
    void* sums = static_cast<char*>(scratch.data()) + narrowed_bytes(x.dtype, rows, outputs);
    with_compute_type(d_out.dtype, [&]<class T>(T) {
        add_column_sums<T>(context, data_of<Accumulator<T>>(d_bias), data_of<const T>(d_out), rows, outputs, sums);
    });
}

}  // namespace ballast::cuda
