#include "kernels/cuda/layernorm.cuh"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

/// mean and bias are absent for RMSNorm.
template <class T, int N, bool kCentred>
void forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
             const Tensor& weight, const Tensor& bias, double eps) {
    using A = Accumulator<T>;
    launch(layernorm_forward_kernel<T, N, kCentred>, grid_of(x.dim(0), kLayerNormWarps), kLayerNormThreads, {},
           context.stream(), data_of<T>(out), data_of<A>(mean), data_of<A>(rstd), data_of<const T>(x),
           data_of<const T>(weight), data_of<const T>(bias), x.dim(0), x.dim(1), static_cast<A>(eps));
}

template <class T, int N, bool kCentred>
void backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias, const Tensor& d_out,
              const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    using A = Accumulator<T>;
    const int64_t rows = x.dim(0), channels = x.dim(1);
    const T *gradient = data_of<const T>(d_out), *from = data_of<const T>(x);
    const A *means = data_of<const A>(mean), *rstds = data_of<const A>(rstd);
    launch(layernorm_backward_kernel<T, N, kCentred>, grid_of(rows, kLayerNormWarps), kLayerNormThreads, {},
           context.stream(), data_of<T>(d_x), gradient, from, data_of<const T>(weight), means, rstds, rows, channels);

    const RowBlocks blocks(rows);
    const int64_t stride = (kCentred ? 2 : 1) * channels;
    const Scratch::Block scratch(context.scratch(), static_cast<size_t>(blocks.blocks * stride) * sizeof(A));
    A* partials = static_cast<A*>(scratch.data());
    launch(layernorm_parameters_kernel<T, N, kCentred>, column_grid(blocks, channels, N), kColumnThreads, {},
           context.stream(), partials, gradient, from, means, rstds, rows, blocks.per_block, channels);
    add_partials(context, data_of<A>(d_weight), partials, blocks.blocks, stride, channels);
    if constexpr (kCentred)
        add_partials(context, data_of<A>(d_bias), partials + channels, blocks.blocks, stride, channels);
}

template <bool kCentred>
void any_forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                 const Tensor& weight, const Tensor& bias, double eps) {
    if (x.dim(0) == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        if (can_pack_all<T>(x.dim(1), out.data, x.data, weight.data, bias.data))
            forward<T, kPackSize<T>, kCentred>(context, out, mean, rstd, x, weight, bias, eps);
        else
            forward<T, 1, kCentred>(context, out, mean, rstd, x, weight, bias, eps);
    });
}

template <bool kCentred>
void any_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                  const Tensor& d_out, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    if (x.dim(0) == 0) return;
    with_compute_type(x.dtype, [&]<class T>(T) {
        if (can_pack_all<T>(x.dim(1), d_x.data, d_out.data, x.data, weight.data))
            backward<T, kPackSize<T>, kCentred>(context, d_x, d_weight, d_bias, d_out, x, weight, mean, rstd);
        else
            backward<T, 1, kCentred>(context, d_x, d_weight, d_bias, d_out, x, weight, mean, rstd);
    });
}

}  // namespace

void layernorm_forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                       const Tensor& weight, const Tensor& bias, double eps) {
    any_forward<true>(context, out, mean, rstd, x, weight, bias, eps);
}

void layernorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                        const Tensor& d_out, const Tensor& x, const Tensor& weight, const Tensor& mean,
                        const Tensor& rstd) {
    any_backward<true>(context, d_x, d_weight, d_bias, d_out, x, weight, mean, rstd);
}

void rmsnorm_forward(Context& context, const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                     double eps) {
    any_forward<false>(context, out, {}, rstd, x, weight, {}, eps);
}

void rmsnorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_out, const Tensor& x,
                      const Tensor& weight, const Tensor& rstd) {
    any_backward<false>(context, d_x, d_weight, {}, d_out, x, weight, {}, rstd);
}

}  // namespace ballast::cuda
