#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/layernorm.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include <cmath>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// LayerNorm or, with kCentred = false, RMSNorm: the same without mean and bias.
template <class T, bool kCentred> struct Norm {
    using A = Accumulator<T>;
    using D = hn::ScalableTag<A>;

    /// x - mean, or x.
    template <class Lanes> static HWY_INLINE hn::Vec<D> centred(D d, const T* x, hn::Vec<D> mean, Lanes lanes) {
        if constexpr (kCentred) return hn::Sub(load(d, x, lanes), mean);
        return load(d, x, lanes);
    }

    /// One row: out = (x - mean) * rstd * weight + bias; two passes, so a large mean costs no digits of the variance.
    static HWY_INLINE void forward_row(T* out, A* mean, A& rstd, const T* x, const T* weight, const T* bias,
                                       int64_t channels, A eps) {
        const D d;
        const A count = static_cast<A>(channels);
        auto m = hn::Zero(d);
        if constexpr (kCentred) {
            *mean = reduce_sum<A>(channels, [&](int64_t c, auto lanes) HWY_ATTR { return load(d, x + c, lanes); }) / count;
            m = hn::Set(d, *mean);
        }
        const A variance = reduce_sum<A>(channels, [&](int64_t c, auto lanes) HWY_ATTR {
                               const auto n = centred(d, x + c, m, lanes);
                               return hn::Mul(n, n);
                           }) / count;
        rstd = A(1) / std::sqrt(variance + eps);
        const auto r = hn::Set(d, rstd);
        for_vectors(d, channels, [&](int64_t c, auto lanes) HWY_ATTR {
            const auto normal = hn::Mul(centred(d, x + c, m, lanes), r);
            const auto w = load(d, weight + c, lanes);
            if constexpr (kCentred)
                store(hn::MulAdd(normal, w, load(d, bias + c, lanes)), d, out + c, lanes);
            else
                store(hn::Mul(normal, w), d, out + c, lanes);
        });
    }

    /// One row of the backward pass. With n = (x - mean) rstd and g = d_out weight:
    ///   d_x += rstd (g - mean(g) - n mean(g n)),  d_weight += d_out n,  d_bias += d_out; RMSNorm without mean(g), d_bias.
    static HWY_INLINE void backward_row(T* d_x, A* d_weight, A* d_bias, const T* d_out, const T* x, const T* weight, A mean,
                                        A rstd, int64_t channels) {
        const D d;
        const A count = static_cast<A>(channels);
        const auto m = hn::Set(d, mean), r = hn::Set(d, rstd);
        const auto normal = [&](int64_t c, auto lanes) HWY_ATTR { return hn::Mul(centred(d, x + c, m, lanes), r); };
        LaneSum<A> sum_g, sum_gn;
        for_virtual_vectors<A>(channels, [&](int64_t part, int64_t c, auto lanes) HWY_ATTR {
            const auto g = hn::Mul(load(d, d_out + c, lanes), load(d, weight + c, lanes));
            if constexpr (kCentred) sum_g.add(part, g);
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
            if constexpr (kCentred) store(hn::Add(gradient, load(d, d_bias + c, lanes)), d, d_bias + c, lanes);
        });
    }
};

template <class T, bool kCentred>
void forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
             const Tensor& weight, const Tensor& bias, double eps) {
    using A = Accumulator<T>;
    const int64_t channels = x.dim(1);
    const Blocks blocks = row_blocks(x.dim(0), channels);
    T* to = out.ptr<T>();
    const T *from = x.ptr<T>(), *w = weight.ptr<T>(), *b = kCentred ? bias.ptr<T>() : nullptr;
    A *means = kCentred ? mean.ptr<A>() : nullptr, *rstds = rstd.ptr<A>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
            Norm<T, kCentred>::forward_row(to + n * channels, kCentred ? means + n : nullptr, rstds[n], from + n * channels,
                                           w, b, channels, static_cast<A>(eps));
    });
}

/// Every block of rows sums its own d_weight and d_bias; the partial sums are then added in the order of the blocks.
template <class T, bool kCentred>
void backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias, const Tensor& d_out,
              const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    using A = Accumulator<T>;
    const int64_t channels = x.dim(1), stride = (kCentred ? 2 : 1) * channels;
    const Blocks blocks = row_blocks(x.dim(0), channels);
    Scratch::Block scratch(context.scratch(), static_cast<size_t>(blocks.size() * stride) * sizeof(A));
    A* partials = static_cast<A*>(scratch.data());
    T* to = d_x.ptr<T>();
    const T *gradient = d_out.ptr<T>(), *from = x.ptr<T>(), *w = weight.ptr<T>();
    const A *means = kCentred ? mean.ptr<A>() : nullptr, *rstds = rstd.ptr<A>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        A* partial = partials + block * stride;
        std::memset(partial, 0, static_cast<size_t>(stride) * sizeof(A));
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
            Norm<T, kCentred>::backward_row(to + n * channels, partial, partial + channels, gradient + n * channels,
                                            from + n * channels, w, kCentred ? means[n] : A(0), rstds[n], channels);
    });
    add_partials(context, d_weight.ptr<A>(), partials, blocks.size(), stride, channels);
    if constexpr (kCentred) add_partials(context, d_bias.ptr<A>(), partials + channels, blocks.size(), stride, channels);
}

void layernorm_forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                       const Tensor& weight, const Tensor& bias, double eps) {
    with_compute_type(x.dtype, [&]<class T>(T) { forward<T, true>(context, out, mean, rstd, x, weight, bias, eps); });
}

void layernorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                        const Tensor& d_out, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        backward<T, true>(context, d_x, d_weight, d_bias, d_out, x, weight, mean, rstd);
    });
}

void rmsnorm_forward(Context& context, const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                     double eps) {
    with_compute_type(x.dtype, [&]<class T>(T) { forward<T, false>(context, out, {}, rstd, x, weight, {}, eps); });
}

void rmsnorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_out, const Tensor& x,
                      const Tensor& weight, const Tensor& rstd) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        backward<T, false>(context, d_x, d_weight, {}, d_out, x, weight, {}, rstd);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(layernorm_forward);
HWY_EXPORT(layernorm_backward);
HWY_EXPORT(rmsnorm_forward);
HWY_EXPORT(rmsnorm_backward);

void layernorm_forward(Context& context, const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                       const Tensor& weight, const Tensor& bias, double eps) {
    HWY_DYNAMIC_DISPATCH(layernorm_forward)(context, out, mean, rstd, x, weight, bias, eps);
}

void layernorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_bias,
                        const Tensor& d_out, const Tensor& x, const Tensor& weight, const Tensor& mean, const Tensor& rstd) {
    HWY_DYNAMIC_DISPATCH(layernorm_backward)(context, d_x, d_weight, d_bias, d_out, x, weight, mean, rstd);
}

void rmsnorm_forward(Context& context, const Tensor& out, const Tensor& rstd, const Tensor& x, const Tensor& weight,
                     double eps) {
    HWY_DYNAMIC_DISPATCH(rmsnorm_forward)(context, out, rstd, x, weight, eps);
}

void rmsnorm_backward(Context& context, const Tensor& d_x, const Tensor& d_weight, const Tensor& d_out, const Tensor& x,
                      const Tensor& weight, const Tensor& rstd) {
    HWY_DYNAMIC_DISPATCH(rmsnorm_backward)(context, d_x, d_weight, d_out, x, weight, rstd);
}

}  // namespace ballast::cpu
#endif
