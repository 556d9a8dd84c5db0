#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/linear.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/linear.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// sums[c] += sum over rows of x[n][c]. Tasks own strips of columns and go down all rows in order.
void add_column_sums(Context& context, const Tensor& sums, const Tensor& x) {
    constexpr int64_t kStrip = 64;
    const int64_t rows = x.dim(0), columns = x.dim(1);
    const Blocks strips{columns, kStrip};
    with_compute_type(x.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const T* from = x.ptr<T>();
        A* to = sums.ptr<A>();
        context.pool().parallel_for(strips.size(), [&](int64_t strip) HWY_ATTR {
            const hn::ScalableTag<A> d;
            const int64_t c0 = strips.begin(strip), width = strips.end(strip) - c0;
            alignas(64) A sum[kStrip] = {};
            for (int64_t n = 0; n < rows; ++n)
                for_vectors(d, width, [&](int64_t i, auto lanes) HWY_ATTR {
                    store(hn::Add(load(d, sum + i, lanes), load(d, from + n * columns + c0 + i, lanes)), d, sum + i, lanes);
                });
            for (int64_t i = 0; i < width; ++i) to[c0 + i] += sum[i];
        });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(add_column_sums);

Tensor widened(Context& context, const Tensor& x, ScratchCarver& scratch) {
    if (x.empty() || x.dtype != Dtype::bf16) return x;
    Tensor wide = x;
    wide.dtype = Dtype::f32;
    wide.data = scratch.take(wide.bytes());
    cast(context, wide, x);
    return wide;
}

size_t widened_bytes(Dtype dtype, int64_t count) {
    return dtype == Dtype::bf16 ? ScratchCarver::padded(static_cast<size_t>(count) * sizeof(float)) : 0;
}

size_t linear_scratch_bytes(const Context&, Dtype x, int64_t rows, int64_t outputs, int64_t inputs) {
    return widened_bytes(x, rows * inputs) + widened_bytes(x, outputs * inputs) + widened_bytes(x, rows * outputs) +
           std::max(widened_bytes(x, outputs), widened_bytes(x, rows * inputs));
}

void linear_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& weight, const Tensor& bias) {
    const int64_t rows = x.dim(0), inputs = x.dim(1), outputs = weight.dim(0);
    Scratch::Block block(context.scratch(), linear_scratch_bytes(context, x.dtype, rows, outputs, inputs));
    ScratchCarver scratch(block.data());
    const Tensor x_wide = widened(context, x, scratch), weight_wide = widened(context, weight, scratch),
                 bias_wide = widened(context, bias, scratch);
    Tensor out_wide = out;
    if (out.dtype == Dtype::bf16) {
        out_wide.dtype = Dtype::f32;
        out_wide.data = scratch.take(out_wide.bytes());
    }
    gemm(context, {.dtype = out_wide.dtype,
                   .m = rows,
                   .n = outputs,
                   .k = inputs,
                   .a = {x_wide.data, inputs, 1},
                   .b = {weight_wide.data, 1, inputs},
                   .c = out_wide.data,
                   .bias = bias_wide.data});
    if (out.dtype == Dtype::bf16) cast(context, out, out_wide);
}

void linear_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias, const Tensor& d_out,
                     const Tensor& x, const Tensor& weight) {
    const int64_t rows = x.dim(0), inputs = x.dim(1), outputs = weight.dim(0);
    Scratch::Block block(context.scratch(), linear_scratch_bytes(context, x.dtype, rows, outputs, inputs));
    ScratchCarver scratch(block.data());
    const Tensor d_out_wide = widened(context, d_out, scratch), x_wide = widened(context, x, scratch);
    if (!d_x.empty()) {
        const Tensor weight_wide = widened(context, weight, scratch);
        Tensor d_x_wide = d_x;
        if (d_x.dtype == Dtype::bf16) {
            d_x_wide.dtype = Dtype::f32;
            d_x_wide.data = scratch.take(d_x_wide.bytes());
        }
        gemm(context, {.dtype = d_x_wide.dtype,
                       .m = rows,
                       .n = inputs,
                       .k = outputs,
                       .a = {d_out_wide.data, outputs, 1},
                       .b = {weight_wide.data, inputs, 1},
                       .c = d_x_wide.data});
        if (d_x.dtype == Dtype::bf16) cast(context, d_x, d_x_wide);
    }
    gemm(context, {.dtype = d_weight.dtype,
                   .m = outputs,
                   .n = inputs,
                   .k = rows,
                   .a = {d_out_wide.data, 1, outputs},
                   .b = {x_wide.data, inputs, 1},
                   .c = d_weight.data,
                   .accumulate = true});
    if (!d_bias.empty()) HWY_DYNAMIC_DISPATCH(add_column_sums)(context, d_bias, d_out);
}

}  // namespace ballast::cpu
#endif
