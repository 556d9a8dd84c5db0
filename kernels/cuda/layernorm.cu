#include "kernels/cuda/layernorm.cuh"

#include <algorithm>
#include <vector>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/ops.h"

namespace ballast::cuda {
namespace {

/// f(T{}, std::integral_constant<int, kNorms>, std::bool_constant<kCentred>).
template <class F>
void with_kind(Dtype dtype, size_t norms, bool centred, F&& f) {
    with_compute_type(dtype, [&]<class T>(T type) {
        const auto with_count = [&](auto count) {
            if (centred)
                f(type, count, std::true_type{});
            else
                f(type, count, std::false_type{});
        };
        if (norms == 2)
            with_count(std::integral_constant<int, 2>{});
        else
            with_count(std::integral_constant<int, 1>{});
    });
}

/// mean is absent for RMSNorm.
template <class T, int kNorms, bool kCentred>
void forward(Context& context, const Residual<T>& residual, std::span<const NormOutput> outputs, const Tensor& mean,
             const Tensor& rstd, int64_t channels, double eps) {
    using A = Accumulator<T>;
    const int64_t rows = rstd.dim(0);
    NormOutputs<T, kNorms> norms{};
    bool packed = can_pack_all<T>(channels, residual.y, residual.a, residual.b, residual.c);
    for (int k = 0; k < kNorms; ++k) {
        const NormOutput& output = outputs[static_cast<size_t>(k)];
        norms.out[k] = data_of<T>(output.out_NC);
        norms.weight[k] = data_of<const T>(output.weight_C);
        norms.bias[k] = data_of<const T>(output.bias_C);
        packed = packed && can_pack_all<T>(channels, norms.out[k], norms.weight[k], norms.bias[k]);
    }
    const auto run = [&](auto n, auto held) {
        constexpr int N = n, kHeld = held;
        launch(layernorm_forward_kernel<T, N, kHeld, kNorms, kCentred>, grid_of(rows, kLayerNormWarps),
               kLayerNormThreads, {}, context.stream(), residual, norms, data_of<A>(mean), data_of<A>(rstd), rows,
               channels, static_cast<A>(eps));
    };
    constexpr std::integral_constant<int, kPackSize<T>> pack;
    if (!packed)
        run(std::integral_constant<int, 1>{}, std::integral_constant<int, 0>{});
    else if (channels <= int64_t{kHeldPacks} * kWarpSize * kPackSize<T>)
        run(pack, std::integral_constant<int, kHeldPacks>{});
    else
        run(pack, std::integral_constant<int, 0>{});
}

template <class T, int N, int kNorms, bool kCentred>
void launch_backward(Context& context, const Tensor& d_y, std::span<const NormGradient> gradients,
                     const NormGradients<T, kNorms>& norms, const Tensor& y, const Tensor& mean, const Tensor& rstd) {
    using A = Accumulator<T>;
    const int64_t rows = y.dim(0), channels = y.dim(1);
    const T* from = data_of<const T>(y);
    const A *means = data_of<const A>(mean), *rstds = data_of<const A>(rstd);
    launch(layernorm_backward_kernel<T, N, kNorms, kCentred>, grid_of(rows, kLayerNormWarps), kLayerNormThreads, {},
           context.stream(), data_of<T>(d_y), norms, from, means, rstds, rows, channels);

    std::vector<A*> sums;
    for (const NormGradient& norm : gradients) {
        sums.push_back(data_of<A>(norm.d_weight_C));
        sums.push_back(data_of<A>(norm.d_bias_C));
    }
    if (std::ranges::all_of(sums, [](const A* sum) { return sum == nullptr; })) return;
    const RowBlocks blocks(rows);
    const int64_t stride = kNorms * 2 * channels;
    const Scratch::Block scratch(context.scratch(), static_cast<size_t>(blocks.blocks * stride) * sizeof(A));
    A* partials = static_cast<A*>(scratch.data());
    launch(layernorm_parameters_kernel<T, N, kNorms, kCentred>, column_grid(blocks, channels, N), kColumnThreads, {},
           context.stream(), partials, norms, from, means, rstds, rows, blocks.per_block, channels);
    add_partials<A>(context, sums, partials, blocks.blocks, stride, channels);
}

template <class T, int kNorms, bool kCentred>
void backward(Context& context, const Tensor& d_y, std::span<const NormGradient> gradients, const Tensor& y,
              const Tensor& mean, const Tensor& rstd) {
    NormGradients<T, kNorms> norms{};
    bool packed = can_pack_all<T>(y.dim(1), d_y.data, y.data);
    for (int k = 0; k < kNorms; ++k) {
        const NormGradient& gradient = gradients[static_cast<size_t>(k)];
        norms.d_out[k] = data_of<const T>(gradient.d_out_NC);
        norms.weight[k] = data_of<const T>(gradient.weight_C);
        packed = packed && can_pack_all<T>(y.dim(1), norms.d_out[k], norms.weight[k]);
    }
    if (packed)
        launch_backward<T, kPackSize<T>, kNorms, kCentred>(context, d_y, gradients, norms, y, mean, rstd);
    else
        launch_backward<T, 1, kNorms, kCentred>(context, d_y, gradients, norms, y, mean, rstd);
}

template <class T>
Residual<T> make_residual(const Tensor& y, const Tensor& a, const Tensor& b, const Tensor& c) {
    return {data_of<T>(y), data_of<const T>(a), data_of<const T>(b), data_of<const T>(c)};
}

}  // namespace

void residual_norm_forward(Context& context, const Tensor& y, std::span<const NormOutput> norms, const Tensor& mean,
                           const Tensor& rstd, const Tensor& a, const Tensor& b, const Tensor& c, double eps) {
    if (a.dim(0) == 0) return;
    with_kind(a.dtype, norms.size(), !mean.empty(), [&]<class T>(T, auto count, auto centred) {
        forward<T, count, centred>(context, make_residual<T>(y, a, b, c), norms, mean, rstd, a.dim(1), eps);
    });
}

void norm_backward(Context& context, const Tensor& d_y, std::span<const NormGradient> norms, const Tensor& y,
                   const Tensor& mean, const Tensor& rstd) {
    if (y.dim(0) == 0) return;
    with_kind(y.dtype, norms.size(), !mean.empty(), [&]<class T>(T, auto count, auto centred) {
        backward<T, count, centred>(context, d_y, norms, y, mean, rstd);
    });
}

}  // namespace ballast::cuda
