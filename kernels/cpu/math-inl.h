// exp, sigmoid and erfc on vectors of float or double (compiled once for every target).

#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>

#include "kernels/cpu/simd-inl.h"

#if defined(BALLAST_KERNELS_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_MATH_INL_H_
#undef BALLAST_KERNELS_CPU_MATH_INL_H_
#else
#define BALLAST_KERNELS_CPU_MATH_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// exp of floats in two thirds of the instructions of Highway's: x = n ln 2 + r, |r| <= ln(2)/2, and the polynomial of
/// Cephes' expf (S. Moshier) for e^r. Error within 2 ulp.
template <class D> HWY_INLINE hn::Vec<D> exp_float(D d, hn::Vec<D> x) {
    const hn::Rebind<int32_t, D> i32;
    const auto lowest = hn::Set(d, -87.3365447505f);  // 2^-126
    const auto rounder = hn::Set(d, 12582912.0f);     // 1.5 * 2^23: adding it leaves round(x / ln 2) in the low bits
    const auto shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), rounder);
    const auto n = hn::Sub(shifted, rounder);
    const auto r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x));
    auto p = hn::MulAdd(hn::Set(d, 1.9875691500e-4f), r, hn::Set(d, 1.3981999507e-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
    p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
    p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
    p = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
    const auto power = hn::Add(hn::ShiftLeft<23>(hn::BitCast(i32, shifted)), hn::Set(i32, 0x3f800000));  // 2^n
    return hn::IfThenZeroElse(hn::Lt(x, lowest), hn::Mul(p, hn::BitCast(d, power)));
}

/// e^x for x up to about 88 (float) or 709 (double); 0 below the smallest normal number and for -inf. NaN stays NaN
/// (Highway's Exp makes it 0, which would hide a broken model).
template <class D> HWY_INLINE hn::Vec<D> exp(D d, hn::Vec<D> x) {
    if constexpr (sizeof(hn::TFromD<D>) == sizeof(float))
        return exp_float(d, x);
    else
        return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, x));
}

/// 1 / (1 + e^-z).
template <class D> HWY_INLINE hn::Vec<D> sigmoid(D d, hn::Vec<D> z) {
    using A = hn::TFromD<D>;
    const auto one = hn::Set(d, A(1));
    const auto e = exp(d, hn::Min(hn::Set(d, A(80)), hn::Neg(z)));  // no overflow; the result is 0 long before
    return hn::Div(one, hn::Add(one, e));
}

/// The same functions on one number, with the same bits as in a vector lane.
template <class A> HWY_INLINE A exp_of(A x) {
    const hn::CappedTag<A, 1> d;
    return hn::GetLane(exp(d, hn::Set(d, x)));
}
template <class A> HWY_INLINE A sigmoid_of(A x) {
    const hn::CappedTag<A, 1> d;
    return hn::GetLane(sigmoid(d, hn::Set(d, x)));
}
/// ln x. NaN stays NaN and infinity infinite (Highway's Log makes 89 of both).
template <class A> HWY_INLINE A log_of(A x) {
    const hn::CappedTag<A, 1> d;
    return std::isfinite(x) ? hn::GetLane(hn::Log(d, hn::Set(d, x))) : x;
}

/// p[0] x^(n-1) + … + p[n-1], Horner's way.
template <class D, size_t n> HWY_INLINE hn::Vec<D> polynomial(D d, hn::Vec<D> x, const double (&p)[n]) {
    using A = hn::TFromD<D>;
    auto sum = hn::Set(d, static_cast<A>(p[0]));
    for (size_t i = 1; i < n; ++i) sum = hn::MulAdd(sum, x, hn::Set(d, static_cast<A>(p[i])));
    return sum;
}

/// erfc(x) for x >= 0, with `exp_minus_x2` = e^(-x²) given (callers need it anyway).
/// W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969): erf(x) = x P(x²)/Q(x²)
/// for x <= 0.46875, erfc(x) = e^(-x²) P(x)/Q(x) above. His third interval (x > 4) is left out: there erfc < 1.6e-8 and
/// the second formula is still within 1e-16 of it in absolute terms.
template <class D> HWY_INLINE hn::Vec<D> erfc_nonnegative(D d, hn::Vec<D> x, hn::Vec<D> exp_minus_x2) {
    constexpr double kSmallP[] = {1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
                                  3.20937758913846947e3};
    constexpr double kSmallQ[] = {1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
                                  2.84423683343917062e3};
    constexpr double kP[] = {2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
                             2.98635138197400131e2,  8.81952221241769090e2,  1.71204761263407058e3, 2.05107837782607147e3,
                             1.23033935479799725e3};
    constexpr double kQ[] = {1.0,                   1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
                             1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
                             1.23033935480374942e3};
    using A = hn::TFromD<D>;
    const auto square = hn::Mul(x, x);
    const auto erf_small = hn::Mul(x, hn::Div(polynomial(d, square, kSmallP), polynomial(d, square, kSmallQ)));
    // Both polynomials grow like x^8; where that could overflow a float, e^(-x²) is 0 already.
    const auto bounded = hn::Min(hn::Set(d, static_cast<A>(100)), x);
    const auto large = hn::Mul(exp_minus_x2, hn::Div(polynomial(d, bounded, kP), polynomial(d, bounded, kQ)));
    return hn::IfThenElse(hn::Le(x, hn::Set(d, static_cast<A>(0.46875))), hn::Sub(hn::Set(d, A(1)), erf_small), large);
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
