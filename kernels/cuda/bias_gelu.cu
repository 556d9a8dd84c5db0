#include "kernels/cuda/bias_gelu.cuh"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

template <class F>
void with_gate(Gelu kind, F&& f) {
    if (kind == Gelu::tanh)
        f(TanhGate{});
    else
        f(ErfGate{});
}

template <class T, class Kind, int N>
void forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& bias) {
    constexpr int kThreads = 256;
    launch(bias_gelu_forward_kernel<T, Kind, N>, grid_of(x.numel(), int64_t{kThreads} * N), kThreads, {},
           context.stream(), data_of<T>(out), data_of<const T>(x), data_of<const T>(bias), x.numel(), x.dim(1));
}

template <class T, class Kind, int N>
void backward(Context& context, const Tensor& d_x, const Tensor& d_bias, const Tensor& d_out, const Tensor& x,
              const Tensor& bias) {
    using A = Accumulator<T>;
    const int64_t rows = x.dim(0), features = x.dim(1);
    const RowBlocks blocks(rows);
    const Scratch::Block scratch(context.scratch(), column_sums_bytes<A>(rows, features));
    A* partials = static_cast<A*>(scratch.data());
    launch(bias_gelu_backward_kernel<T, Kind, N>, column_grid(blocks, features, N), kColumnThreads, {},
           context.stream(), data_of<T>(d_x), partials, data_of<const T>(d_out), data_of<const T>(x),
           data_of<const T>(bias), rows, blocks.per_block, features);
    add_partials(context, data_of<A>(d_bias), partials, blocks.blocks, features, features);
}

}  // namespace

void bias_gelu_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& bias, Gelu kind) {
    if (x.numel() == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        with_gate(kind, [&]<class Kind>(Kind) {
            if (can_pack_all<T>(x.dim(1), out.data, x.data, bias.data))
                forward<T, Kind, kPackSize<T>>(context, out, x, bias);
            else
                forward<T, Kind, 1>(context, out, x, bias);
        });
    });
}

void bias_gelu_backward(Context& context, const Tensor& d_x, const Tensor& d_bias, const Tensor& d_out, const Tensor& x,
                        const Tensor& bias, Gelu kind) {
    if (x.numel() == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        with_gate(kind, [&]<class Kind>(Kind) {
            if (can_pack_all<T>(x.dim(1), d_x.data, d_out.data, x.data, bias.data))
                backward<T, Kind, kPackSize<T>>(context, d_x, d_bias, d_out, x, bias);
            else
                backward<T, Kind, 1>(context, d_x, d_bias, d_out, x, bias);
        });
    });
}

}  // namespace ballast::cuda
