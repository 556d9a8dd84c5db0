#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layernorm.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include <cmath>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

template <class T> struct LayerNorm {
    using A = Accumulator<T>;
    using D = hn::ScalableTag<A>;

    /// One row: out = (x - mean) * rstd * weight + bias; two passes, so a large mean costs no digits of the variance.
    static HWY_INLINE void forward_row(T* out, A& mean, A& rstd, const T* x, const T* weight, const T* bias, int64_t channels,
                                       A eps) {
        const D d;
        const A count = static_cast<A>(channels);
        mean = reduce_sum<A>(channels, [&](int64_t c, auto lanes) HWY_ATTR { return load(d, x + c, lanes); }) / count;
        const auto m = hn::Set(d, mean);
        const A variance = reduce_sum<A>(channels, [&](int64_t c, auto lanes) HWY_ATTR {
                               const auto centred = hn::Sub(load(d, x + c, lanes), m);
                               return hn::Mul(centred, centred);
                           }) / count;
        rstd = A(1) / std::sqrt(variance + eps);
        const auto r = hn::Set(d, rstd);
        for_vectors(d, channels, [&](int64_t c, auto lanes) HWY_ATTR {
            const auto normal = hn::Mul(hn::Sub(load(d, x + c, lanes), m), r);
            store(hn::MulAdd(normal, load(d, weight + c, lanes), load(d, bias + c, lanes)), d, out + c, lanes);
        });
    }

    /// One row of the backward pass. With n = (x - mean) rstd and g = d_out weight:
    ///   d_x += rstd (g - mean(g) - n mean(g n)),  d_weight += d_out n,  d_bias += d_out.
    static HWY_INLINE void backward_row(T* d_x, A* d_weight, A* d_bias, const T* d_out, const T* x, const T* weight, A mean,
                                        A rstd, int64_t channels) {
        const D d;
        const A count = static_cast<A>(channels);
        const auto m = hn::Set(d, mean), r = hn::Set(d, rstd);
        const auto normal = [&](int64_t c, auto lanes) HWY_ATTR { return hn::Mul(hn::Sub(load(d, x + c, lanes), m), r); };
        LaneSum<A> sum_g, sum_gn;
        for_virtual_vectors<A>(channels, [&](int64_t part, int64_t c, auto lanes) HWY_ATTR {
            const auto g = hn::Mul(load(d, d_out + c, lanes), load(d, weight + c, lanes));
            sum_g.add(part, g);
            sum_gn.add(part, hn::Mul(g, normal(c, lanes)));
        });
        const auto mean_g = hn::Set(d, sum_g.total() / count), mean_gn = hn::Set(d, sum_gn.total() / count);
        for_vectors(d, channels, [&](int64_t c, auto lanes) HWY_ATTR {
            const auto gradient = load(d, d_out + c, lanes);
            const auto n = normal(c, lanes);
            const auto g = hn::Mul(gradient, load(d, weight + c, lanes));
            const auto inner = hn::NegMulAdd(n, mean_gn, hn::Sub(g, mean_g));
            store(hn::MulAdd(inner, r, load(d, d_x + c, lanes)), d, d_x + c, lanes);
            store(hn::MulAdd(gradient, n, load(d, d_weight + c, lanes)), d, d_weight + c, lanes);
            store(hn::Add(gradient, load(d, d_bias + c, lanes)), d, d_bias + c, lanes);
        });
    }
};

template <class T>
void forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
             const Tensor& weight, const Tensor& bias, double eps) {
    using A = Accumulator<T>;
    const int64_t channels = x.dim(1);
    const Blocks blocks = row_blocks(x.dim(0), channels);
    T* to = out.ptr<T>();
    const T *from = x.ptr<T>(), *w = weight.ptr<T>(), *b = bias.ptr<T>();
    A *means = mean.ptr<A>(), *rstds = rstd.ptr<A>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
            LayerNorm<T>::forward_row(to + n * channels, means[n], rstds[n], from + n * channels, w, b, channels,
                                      static_cast<A>(eps));
    });
}

/// Every block of rows sums its own d_weight and d_bias; the partial sums are then added in the order of the blocks.
template <class T>
void backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias, const Tensor& d_out,
              const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    using A = Accumulator<T>;
    const int64_t channels = x.dim(1);
    const Blocks blocks = row_blocks(x.dim(0), channels);
    Scratch::Block scratch(context.scratch(), static_cast<size_t>(blocks.size() * 2 * channels) * sizeof(A));
    A* partials = static_cast<A*>(scratch.data());
    T* to = d_x.ptr<T>();
    const T *gradient = d_out.ptr<T>(), *from = x.ptr<T>(), *w = weight.ptr<T>();
    const A *means = mean.ptr<A>(), *rstds = rstd.ptr<A>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        A* partial = partials + block * 2 * channels;
        std::memset(partial, 0, static_cast<size_t>(2 * channels) * sizeof(A));
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
            LayerNorm<T>::backward_row(to + n * channels, partial, partial + channels, gradient + n * channels,
                                       from + n * channels, w, means[n], rstds[n], channels);
    });
    add_partials(context, d_weight.ptr<A>(), partials, blocks.size(), 2 * channels, channels);
    add_partials(context, d_bias.ptr<A>(), partials + channels, blocks.size(), 2 * channels, channels);
}

void layernorm_forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                       const Tensor& weight, const Tensor& bias, double eps) {
    with_compute_type(x.dtype, [&]<class T>(T) { forward<T>(context, out, mean, rstd, x, weight, bias, eps); });
}

void layernorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                        const Tensor& d_out, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        backward<T>(context, d_x, d_weight, d_bias, d_out, x, weight, mean, rstd);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(layernorm_forward);
HWY_EXPORT(layernorm_backward);

void layernorm_forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                       const Tensor& weight, const Tensor& bias, double eps) {
    HWY_DYNAMIC_DISPATCH(layernorm_forward)(context, out, mean, rstd, x, weight, bias, eps);
}

void layernorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                        const Tensor& d_out, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    HWY_DYNAMIC_DISPATCH(layernorm_backward)(context, d_x, d_weight, d_bias, d_out, x, weight, mean, rstd);
}

}  // namespace ballast::cpu
#endif
