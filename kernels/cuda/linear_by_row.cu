#include "kernels/cuda/linear_by_row.cuh"

#include "kernels/cuda/linear.h"

namespace ballast::cuda {
namespace {

/// Whether every chunk of the kernel can be read in loads of 16 bytes.
template <class T, class W>
bool is_packed(const Tensor& x, const Tensor& weight, int64_t inputs) {
    return inputs % kPackSize<W> == 0 && can_pack<W>(weight.data, inputs) && can_pack<T>(x.data, inputs);
}

template <class T, class W, class Out>
void run(Context& context, const Tensor& out, const Tensor& x, const LinearWeight& w) {
    const int64_t rows = x.dim(0), outputs = out.dim(1), inputs = x.dim(1);
    const auto with = [&](auto packed) {
        launch(linear_by_row_kernel<T, W, Out, packed>, grid_of(outputs, kByRowWarps), kByRowThreads, {},
               context.stream(), data_of<Out>(out), data_of<const T>(x), data_of<const W>(w.weight),
               data_of<const float>(w.scale), data_of<const T>(w.bias), rows, outputs, inputs);
    };
    if (is_packed<T, W>(x, w.weight, inputs))
        with(std::true_type{});
    else
        with(std::false_type{});
}

template <class T, class W>
void with_output(Context& context, const Tensor& out, const Tensor& x, const LinearWeight& w) {
    if (out.dtype == x.dtype)
        run<T, W, T>(context, out, x, w);
    else
        run<T, W, Accumulator<T>>(context, out, x, w);
}

}  // namespace

void linear_by_row(Context& context, const Tensor& out, const Tensor& x, const LinearWeight& w) {
    if (out.numel() == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        if (w.weight.dtype == x.dtype) return with_output<T, T>(context, out, x, w);
        if constexpr (!std::is_same_v<T, double>) {
            if (w.weight.dtype == Dtype::i8) return with_output<T, int8_t>(context, out, x, w);
            if constexpr (std::is_same_v<T, float>)
                if (w.weight.dtype == Dtype::bf16) return with_output<T, __nv_bfloat16>(context, out, x, w);
        }
        require(false, "weights that no product reads");
    });
}

void dequantise(Context& context, const Tensor& out, const LinearWeight& w) {
    constexpr int kThreads = 256;
    if (out.numel() == 0) return;
    with_compute_type(out.dtype, [&]<class T>(T) {
        const auto run_packs = [&](auto n) {
            constexpr int N = n;
            const int64_t count = out.numel() / N;
            launch(dequantise_kernel<T, N>, grid_of(count, kThreads), kThreads, {}, context.stream(), data_of<T>(out),
                   data_of<const int8_t>(w.weight), data_of<const float>(w.scale), units_of(count),
                   Divisor(out.dim(1) / N));
        };
        if (can_pack_scaled<T>(out.data, w.weight.data, out.dim(1)))
            run_packs(std::integral_constant<int, kPackSize<T>>{});
        else
            run_packs(std::integral_constant<int, 1>{});
    });
}

}  // namespace ballast::cuda
