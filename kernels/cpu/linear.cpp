#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/by_row.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// sums[c] += sum over rows of x[n][c].
void add_column_sums(Context& context, const Tensor& sums, const Tensor& x, void* scratch) {
    const int64_t columns = x.dim(1);
    const Blocks blocks = row_blocks(x.dim(0), columns);
    with_compute_type(x.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const T* from = x.ptr<T>();
        A* partials = static_cast<A*>(scratch);
        context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
            const hn::ScalableTag<A> d;
            A* sum = partials + block * columns;
            std::fill_n(sum, columns, A(0));
            for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
                for_vectors(d, columns, [&](int64_t i, auto lanes) HWY_ATTR {
                    store(hn::Add(load(d, sum + i, lanes), load(d, from + n * columns + i, lanes)), d, sum + i, lanes);
                });
        });
        add_partials(context, sums.ptr<A>(), partials, blocks.size(), columns, columns);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(add_column_sums);

Dtype product_dtype(const Context& context, Dtype x) {
    return x == Dtype::bf16 && native_bf16(context) ? Dtype::bf16 : accumulation_dtype(x);
}

namespace {

/// What the products of x and a weight are multiplied in.
Dtype multiply_dtype(const Context& context, Dtype x, Dtype weight, Products products) {
    if (products == Products::gemm) return product_dtype(context, x);
    const bool narrow = x == Dtype::bf16 && weight == Dtype::bf16 && takes_bf16_by_row(context);
    return narrow ? Dtype::bf16 : accumulation_dtype(x);
}

}  // namespace

Tensor converted(Context& context, const Tensor& x, Dtype dtype, ScratchCarver& scratch) {
    if (x.empty() || x.dtype == dtype) return x;
    Tensor other = x;
    other.dtype = dtype;
    other.data = scratch.take(other.bytes());
    cast(context, other, x);
    return other;
}

Tensor converted_weight(Context& context, const LinearWeight& weight, Dtype dtype, ScratchCarver& scratch) {
    if (weight.scale.empty()) return converted(context, weight.weight, dtype, scratch);
    Tensor numbers = weight.weight;
    numbers.dtype = dtype;
    numbers.data = scratch.take(numbers.bytes());
    dequantise(context, numbers, weight);
    return numbers;
}

size_t converted_bytes(Dtype from, Dtype to, int64_t count) {
    return from == to ? 0 : ScratchCarver::padded(static_cast<size_t>(count) * size_of(to));
}

size_t linear_scratch_bytes(const Context& context, Dtype x, Dtype weight, int64_t rows, int64_t outputs,
                            int64_t inputs, Products products) {
    const Dtype product = multiply_dtype(context, x, weight, products);
    const size_t x_bytes = products == Products::by_row
                               ? ScratchCarver::padded(packed_rows_bytes(product, rows, inputs))
                               : converted_bytes(x, product, rows * inputs);
    const size_t weight_bytes = products == Products::by_row ? 0 : converted_bytes(weight, product, outputs * inputs);
    const size_t bias_bytes = converted_bytes(x, product, outputs);
    // out and d_out may be in x or in the accumulation dtype
    const size_t out_bytes = std::max(converted_bytes(x, product, rows * outputs),
                                      converted_bytes(accumulation_dtype(x), product, rows * outputs));
    const size_t bias_sums = ScratchCarver::padded(static_cast<size_t>(row_blocks(rows, outputs).size() * outputs) *
                                                   size_of(accumulation_dtype(x)));
    return x_bytes + weight_bytes + out_bytes + std::max(bias_bytes, x_bytes) + bias_sums;
}

namespace {

/// C of a product is in the accumulation dtype or, where the products are native bf16, in bf16. Anything else goes
/// through scratch memory and finish().
class ProductOutput {
  public:
    ProductOutput(const Tensor& out, Dtype product, ScratchCarver& scratch) : out_(out), c_(out) {
        if (out.dtype != Dtype::bf16 || product == Dtype::bf16) return;
        c_.dtype = Dtype::f32;
        c_.data = scratch.take(c_.bytes());
    }
    void* data() const { return c_.data; }
    bool narrow() const { return c_.dtype == Dtype::bf16; }
    void finish(Context& context) const {
        if (c_.data != out_.data) cast(context, out_, c_);
    }

  private:
    const Tensor& out_;
    Tensor c_;
};

}  // namespace

void linear_forward_to(Context& context, const Tensor& out, const Tensor& x, const LinearWeight& weight,
                       Products products, Epilogue epilogue, const Tensor& aux) {
    const int64_t rows = x.dim(0), inputs = x.dim(1), outputs = out.dim(1);
    const Dtype product = multiply_dtype(context, x.dtype, weight.weight.dtype, products);
    const size_t bytes =
        cpu::linear_scratch_bytes(context, x.dtype, weight.weight.dtype, rows, outputs, inputs, products);
    const Scratch::Block block(context.scratch(), bytes);
    ScratchCarver scratch(block.data(), bytes);
    const ProductOutput c(out, product, scratch);
    GemmArguments arguments{.dtype = product,
                            .m = rows,
                            .n = outputs,
                            .k = inputs,
                            .a = {},
                            .b = {},
                            .c = c.data(),
                            .bias = converted(context, weight.bias, product, scratch).data,
                            .narrow_c = c.narrow(),
                            .epilogue = epilogue,
                            .aux = aux.data,
                            .aux_dtype = aux.dtype};
    if (products == Products::by_row) {
        void* packed = scratch.take(packed_rows_bytes(product, rows, inputs));
        if (product == Dtype::bf16) {
            arguments.a = {x.data, inputs, 1};
            arguments.b = {weight.weight.data, 1, inputs};
            product_by_row_bf16(context, arguments, packed);
        } else {
            product_by_row(context, arguments, x, weight, packed);
        }
    } else {
        arguments.a = {converted(context, x, product, scratch).data, inputs, 1};
        arguments.b = {converted_weight(context, weight, product, scratch).data, 1, inputs};
        gemm(context, arguments);
    }
    c.finish(context);
}

void linear_backward_to(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                        const Tensor& d_out, const Tensor& x, const Tensor& weight, Epilogue epilogue,
                        const Tensor& aux) {
    const int64_t rows = x.dim(0), inputs = x.dim(1), outputs = weight.dim(0);
    const Dtype product = product_dtype(context, x.dtype);
    const size_t bytes = cpu::linear_scratch_bytes(context, x.dtype, x.dtype, rows, outputs, inputs, Products::gemm);
    const Scratch::Block block(context.scratch(), bytes);
    ScratchCarver scratch(block.data(), bytes);
    const Tensor gradient = converted(context, d_out, product, scratch);
    if (!d_x.empty()) {
        const ProductOutput c(d_x, product, scratch);
        gemm(context, {.dtype = product,
                       .m = rows,
                       .n = inputs,
                       .k = outputs,
                       .a = {gradient.data, outputs, 1},
                       .b = {converted(context, weight, product, scratch).data, inputs, 1},
                       .c = c.data(),
                       .narrow_c = c.narrow(),
                       .epilogue = epilogue,
                       .aux = aux.data,
                       .aux_dtype = aux.dtype});
        c.finish(context);
    }
    if (!d_weight.empty())
        gemm(context, {.dtype = product,
                       .m = outputs,
                       .n = inputs,
                       .k = rows,
                       .a = {gradient.data, 1, outputs},
                       .b = {converted(context, x, product, scratch).data, inputs, 1},
                       .c = d_weight.data,
                       .accumulate = true});
    if (d_bias.empty()) return;
    void* sums = scratch.take(static_cast<size_t>(row_blocks(rows, outputs).size() * outputs) * size_of(d_bias.dtype));
    HWY_DYNAMIC_DISPATCH(add_column_sums)(context, d_bias, d_out, sums);
}

void linear_forward(Context& context, const Tensor& out, const Tensor& x, const LinearWeight& weight,
                    Products products) {
    linear_forward_to(context, out, x, weight, products, Epilogue::none, Tensor{});
}

void linear_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                     const Tensor& d_out, const Tensor& x, const Tensor& weight) {
    linear_backward_to(context, d_x, d_weight, d_bias, d_out, x, weight, Epilogue::none, Tensor{});
}

}  // namespace ballast::cpu
#endif
