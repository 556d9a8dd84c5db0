// GELU's gates on vectors (compiled once for every target).

#include <numbers>

#include "kernels/cpu/math-inl.h"

#if defined(BALLAST_KERNELS_CPU_GELU_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_GELU_INL_H_
#undef BALLAST_KERNELS_CPU_GELU_INL_H_
#else
#define BALLAST_KERNELS_CPU_GELU_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// gelu(u) = u phi(u), where phi is the (approximate) normal distribution function and slope its derivative.
template <class D>
struct Gate {
    hn::Vec<D> phi, slope;
};

/// phi = (1 + tanh y)/2 = 1/(1 + e^(-2y)), y = sqrt(2/pi) (u + 0.044715 u³); phi' = 2 phi (1 - phi) y'. The logistic
/// form needs one exp and keeps its relative accuracy where tanh is near -1.
struct TanhGate {
    template <class D>
    static HWY_INLINE Gate<D> at(D d, hn::Vec<D> u) {
        using A = hn::TFromD<D>;
        constexpr double kSlope = 2 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi,
                         kCubic = 0.044715;  // 2 sqrt(2/pi)
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
    template <class D>
    static HWY_INLINE Gate<D> at(D d, hn::Vec<D> u) {
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

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
