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

    /// y = a + b + c.
    static HWY_INLINE void add_row(T* y, const T* a, const T* b, const T* c, int64_t channels) {
        const D d;
        for_vectors(d, channels, [&](int64_t i, auto lanes) HWY_ATTR {
            auto sum = hn::Add(load(d, a + i, lanes), load(d, b + i, lanes));
            if (c != nullptr) sum = hn::Add(sum, load(d, c + i, lanes));
            store(sum, d, y + i, lanes);
        });
    }

    struct Statistics {
        A mean, rstd;
    };
    /// Two passes, so a large mean costs no digits of the variance.
    static HWY_INLINE Statistics statistics(const T* x, int64_t channels, A eps) {
        const D d;
        const A count = static_cast<A>(channels);
        A mean = 0;
        if constexpr (kCentred)
            mean = reduce_sum<A>(channels, [&](int64_t c, auto lanes) HWY_ATTR { return load(d, x + c, lanes); }) / count;
        const auto m = hn::Set(d, mean);
        const A variance = reduce_sum<A>(channels, [&](int64_t c, auto lanes) HWY_ATTR {
                               const auto n = centred(d, x + c, m, lanes);
                               return hn::Mul(n, n);
                           }) / count;
        return {mean, A(1) / std::sqrt(variance + eps)};
    }

    /// out = (x - mean) * rstd * weight + bias; either bias may be nullptr.
    static HWY_INLINE void normalise_row(T* out, const T* x, const T* weight, const T* bias, Statistics s, int64_t channels) {
        const D d;
        const auto m = hn::Set(d, s.mean), r = hn::Set(d, s.rstd);
        for_vectors(d, channels, [&](int64_t c, auto lanes) HWY_ATTR {
            const auto normal = hn::Mul(centred(d, x + c, m, lanes), r);
            const auto w = load(d, weight + c, lanes);
            if (bias != nullptr)
                store(hn::MulAdd(normal, w, load(d, bias + c, lanes)), d, out + c, lanes);
            else
                store(hn::Mul(normal, w), d, out + c, lanes);
        });
    }

    /// One row of the backward pass. With n = (x - mean) rstd and g = d_out weight:
    ///   d_x += rstd (g - mean(g) - n mean(g n)),  d_weight += d_out n,  d_bias += d_out; RMSNorm without mean(g).
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
            if (d_bias != nullptr) store(hn::Add(gradient, load(d, d_bias + c, lanes)), d, d_bias + c, lanes);
        });
    }
};

/// A row of `tensor`, or nullptr where it is absent.
template <class T> T* row_of(const Tensor& tensor, int64_t row, int64_t width) {
    return tensor.empty() ? nullptr : tensor.ptr<T>() + row * width;
}

/// Row by row, so that y is in the cache when its norms are taken.
template <class T, bool kCentred>
void forward(Context& context, const Tensor& y, std::span<const NormOutput> norms, const Tensor& mean,
             const Tensor& rstd, const Tensor& a, const Tensor& b, const Tensor& c, double eps) {
    using A = Accumulator<T>;
    using Row = Norm<T, kCentred>;
    const int64_t channels = a.dim(1);
    const Blocks blocks = row_blocks(a.dim(0), channels);
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
            const T* x = row_of<T>(y.empty() ? a : y, n, channels);
            if (!y.empty())
                Row::add_row(row_of<T>(y, n, channels), row_of<T>(a, n, channels), row_of<T>(b, n, channels),
                             row_of<T>(c, n, channels), channels);
            const auto statistics = Row::statistics(x, channels, static_cast<A>(eps));
            for (const NormOutput& norm : norms)
                Row::normalise_row(row_of<T>(norm.out_NC, n, channels), x, norm.weight_C.ptr<T>(),
                                   row_of<T>(norm.bias_C, 0, channels), statistics, channels);
            if constexpr (kCentred) mean.ptr<A>()[n] = statistics.mean;
            rstd.ptr<A>()[n] = statistics.rstd;
        }
    });
}

/// Every block of rows sums its own d_weight and d_bias; the partial sums are then added in the order of the blocks.
template <class T, bool kCentred>
void backward(Context& context, const Tensor& d_y, std::span<const NormGradient> norms, const Tensor& y,
              const Tensor& mean, const Tensor& rstd) {
    using A = Accumulator<T>;
    const int64_t channels = y.dim(1), norm_stride = 2 * channels,
                  stride = static_cast<int64_t>(norms.size()) * norm_stride;
    const Blocks blocks = row_blocks(y.dim(0), channels);
    Scratch::Block scratch(context.scratch(), static_cast<size_t>(blocks.size() * stride) * sizeof(A));
    A* partials = static_cast<A*>(scratch.data());
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        std::memset(partials + block * stride, 0, static_cast<size_t>(stride) * sizeof(A));
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
            A* partial = partials + block * stride;
            for (const NormGradient& norm : norms) {
                Norm<T, kCentred>::backward_row(row_of<T>(d_y, n, channels), partial,
                                                norm.d_bias_C.empty() ? nullptr : partial + channels,
                                                row_of<T>(norm.d_out_NC, n, channels), row_of<T>(y, n, channels),
                                                norm.weight_C.ptr<T>(), kCentred ? mean.ptr<A>()[n] : A(0),
                                                rstd.ptr<A>()[n], channels);
                partial += norm_stride;
            }
        }
    });
    for (const NormGradient& norm : norms) {
        if (!norm.d_weight_C.empty())
            add_partials(context, norm.d_weight_C.ptr<A>(), partials, blocks.size(), stride, channels);
        if (!norm.d_bias_C.empty())
            add_partials(context, norm.d_bias_C.ptr<A>(), partials + channels, blocks.size(), stride, channels);
        partials += norm_stride;
    }
}

void residual_norm_forward(Context& context, const Tensor& y, std::span<const NormOutput> norms, const Tensor& mean,
                           const Tensor& rstd, const Tensor& a, const Tensor& b, const Tensor& c, double eps) {
    with_compute_type(a.dtype, [&]<class T>(T) {
        if (mean.empty())
            forward<T, false>(context, y, norms, mean, rstd, a, b, c, eps);
        else
            forward<T, true>(context, y, norms, mean, rstd, a, b, c, eps);
    });
}

void norm_backward(Context& context, const Tensor& d_y, std::span<const NormGradient> norms, const Tensor& y,
                   const Tensor& mean, const Tensor& rstd) {
    with_compute_type(y.dtype, [&]<class T>(T) {
        if (mean.empty())
            backward<T, false>(context, d_y, norms, y, mean, rstd);
        else
            backward<T, true>(context, d_y, norms, y, mean, rstd);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(residual_norm_forward);
HWY_EXPORT(norm_backward);

void residual_norm_forward(Context& context, const Tensor& y, std::span<const NormOutput> norms, const Tensor& mean,
                           const Tensor& rstd, const Tensor& a, const Tensor& b, const Tensor& c, double eps) {
    HWY_DYNAMIC_DISPATCH(residual_norm_forward)(context, y, norms, mean, rstd, a, b, c, eps);
}

void norm_backward(Context& context, const Tensor& d_y, std::span<const NormGradient> norms, const Tensor& y,
                   const Tensor& mean, const Tensor& rstd) {
    HWY_DYNAMIC_DISPATCH(norm_backward)(context, d_y, norms, y, mean, rstd);
}

}  // namespace ballast::cpu
#endif
