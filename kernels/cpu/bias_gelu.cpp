#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/bias_gelu.cpp"
#include "kernels/cpu/targets.h"
#include <hwy/foreach_target.h>

#include <numbers>

#include "kernels/cpu/math-inl.h"
#include "kernels/cpu/ops.h"

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// gelu(u) = u phi(u), where phi is the (approximate) normal distribution function and slope its derivative.
template <class D> struct Gate {
    hn::Vec<D> phi, slope;
};

/// phi = (1 + tanh y)/2 = 1/(1 + e^(-2y)), y = sqrt(2/pi) (u + 0.044715 u³); phi' = 2 phi (1 - phi) y'. The logistic form
/// needs one exp and keeps its relative accuracy where tanh is near -1.
struct TanhGate {
    template <class D> static HWY_INLINE Gate<D> at(D d, hn::Vec<D> u) {
        using A = hn::TFromD<D>;
        constexpr double kSlope = 2 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi, kCubic = 0.044715;  // 2 sqrt(2/pi)
        const auto one = hn::Set(d, A(1));
        const auto square = hn::Mul(u, u);
        const auto twice_y = hn::Mul(hn::Mul(u, hn::Set(d, static_cast<A>(kSlope))),
                                     hn::MulAdd(square, hn::Set(d, static_cast<A>(kCubic)), one));
        const auto e = exp(d, hn::Min(hn::Set(d, A(80)), hn::Neg(twice_y)));  // no overflow; phi is 0 long before
        const auto phi = hn::Div(one, hn::Add(one, e));
        const auto twice_dy = hn::Mul(hn::Set(d, static_cast<A>(kSlope)),
                                      hn::MulAdd(square, hn::Set(d, static_cast<A>(3 * kCubic)), one));
        // phi (1 - phi) = phi² e
        return {phi, hn::Mul(hn::Mul(hn::Mul(phi, phi), e), twice_dy)};
    }
};

/// phi = erfc(-u/sqrt 2)/2, phi' = e^(-u²/2)/sqrt(2 pi).
struct ErfGate {
    template <class D> static HWY_INLINE Gate<D> at(D d, hn::Vec<D> u) {
        using A = hn::TFromD<D>;
        const auto half = hn::Set(d, A(0.5));
        const auto density = exp(d, hn::Mul(hn::Mul(u, u), hn::Set(d, A(-0.5))));
        const auto x = hn::Mul(hn::Abs(u), hn::Set(d, static_cast<A>(1 / std::numbers::sqrt2)));
        const auto tail = hn::Mul(half, erfc_nonnegative(d, x, density));  // phi(-|u|)
        const auto phi = hn::IfThenElse(hn::Lt(u, hn::Zero(d)), tail, hn::Sub(hn::Set(d, A(1)), tail));
        constexpr double kScale = std::numbers::inv_sqrtpi / std::numbers::sqrt2;
        return {phi, hn::Mul(density, hn::Set(d, static_cast<A>(kScale)))};
    }
};

template <class T, class Kind> void forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& bias) {
    using A = Accumulator<T>;
    const hn::ScalableTag<A> d;
    const int64_t features = x.dim(1);
    const Blocks blocks = row_blocks(x.dim(0), features);
    T* to = out.ptr<T>();
    const T *from = x.ptr<T>(), *b = bias.ptr<T>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n)
            for_vectors(d, features, [&](int64_t f, auto lanes) HWY_ATTR {
                const auto u = hn::Add(load(d, from + n * features + f, lanes), load(d, b + f, lanes));
                store(hn::Mul(u, Kind::at(d, u).phi), d, to + n * features + f, lanes);
            });
    });
}

template <class T, class Kind>
void backward(Context& context, const Tensor& d_x, const Tensor& d_bias, const Tensor& d_out, const Tensor& x,
              const Tensor& bias) {
    using A = Accumulator<T>;
    const hn::ScalableTag<A> d;
    const int64_t features = x.dim(1);
    const Blocks blocks = row_blocks(x.dim(0), features);
    Scratch::Block scratch(context.scratch(), static_cast<size_t>(blocks.size() * features) * sizeof(A));
    A* partials = static_cast<A*>(scratch.data());
    T* to = d_x.ptr<T>();
    const T *gradient = d_out.ptr<T>(), *from = x.ptr<T>(), *b = bias.ptr<T>();
    context.pool().parallel_for(blocks.size(), [&](int64_t block) HWY_ATTR {
        A* sum = partials + block * features;
        std::fill_n(sum, features, A(0));
        for (int64_t n = blocks.begin(block); n < blocks.end(block); ++n) {
            const int64_t row = n * features;
            for_vectors(d, features, [&](int64_t f, auto lanes) HWY_ATTR {
                const auto u = hn::Add(load(d, from + row + f, lanes), load(d, b + f, lanes));
                const auto gate = Kind::at(d, u);
                const auto g = hn::Mul(load(d, gradient + row + f, lanes), hn::MulAdd(u, gate.slope, gate.phi));
                store(g, d, to + row + f, lanes);
                store(hn::Add(load(d, sum + f, lanes), g), d, sum + f, lanes);
            });
        }
    });
    add_partials(context, d_bias.ptr<A>(), partials, blocks.size(), features, features);
}

void bias_gelu_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& bias, Gelu kind) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        if (kind == Gelu::tanh)
            forward<T, TanhGate>(context, out, x, bias);
        else
            forward<T, ErfGate>(context, out, x, bias);
    });
}

void bias_gelu_backward(Context& context, const Tensor& d_x, const Tensor& d_bias, const Tensor& d_out, const Tensor& x,
                        const Tensor& bias, Gelu kind) {
    with_compute_type(x.dtype, [&]<class T>(T) {
        if (kind == Gelu::tanh)
            backward<T, TanhGate>(context, d_x, d_bias, d_out, x, bias);
        else
            backward<T, ErfGate>(context, d_x, d_bias, d_out, x, bias);
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ballast::cpu {

HWY_EXPORT(bias_gelu_forward);
HWY_EXPORT(bias_gelu_backward);

void bias_gelu_forward(Context& context, const Tensor& out, const Tensor& x, const Tensor& bias, Gelu kind) {
    HWY_DYNAMIC_DISPATCH(bias_gelu_forward)(context, out, x, bias, kind);
}

void bias_gelu_backward(Context& context, const Tensor& d_x, const Tensor& d_bias, const Tensor& d_out, const Tensor& x,
                        const Tensor& bias, Gelu kind) {
    HWY_DYNAMIC_DISPATCH(bias_gelu_backward)(context, d_x, d_bias, d_out, x, bias, kind);
}

}  // namespace ballast::cpu
#endif
