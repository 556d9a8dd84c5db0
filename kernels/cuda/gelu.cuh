// GELU for products that cannot have it as an epilogue (linear_gelu.cu): gelu(u) = u phi(u), where phi is the normal
// distribution function or its tanh approximation.
//   forward:   out = gelu(u)
//   backward:  d_u = d_out (phi + u phi')
// All [count] of T, rounded once, computed in Accumulator<T>; saved for the backward pass: u. Overwrites; d_u is d_out
// in place. A thread a pack of 16 bytes, 256 threads a block, no shared memory. Bound by memory: 2 and 3 elements
// moved. Deterministic: every element has its own thread.
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/simt/ptx.cuh"

namespace ballast::cuda {

template <class A>
struct Gate {
    A phi, slope;  // phi(u) and phi'(u)
};

/// phi = (1 + tanh y)/2 = 1/(1 + e^(-2y)), y = sqrt(2/pi) (u + 0.044715 u³); phi' = 2 phi (1 - phi) y'. The logistic
/// form keeps its relative accuracy where tanh is near -1.
struct TanhGate {
    template <class A>
    static __device__ __forceinline__ Gate<A> at(A u) {
        const A slope = static_cast<A>(1.5957691216057307), cubic = static_cast<A>(0.044715);  // 2 sqrt(2/pi)
        const A square = u * u, twice_y = u * slope * (square * cubic + A(1));
        const A e = exp_of(twice_y < A(-80) ? A(80) : -twice_y);  // no overflow; phi is 0 long before
        const A phi = A(1) / (A(1) + e);
        return {phi, phi * phi * e * slope * (square * (3 * cubic) + A(1))};  // phi (1 - phi) = phi² e
    }
};

/// phi = erfc(-u/sqrt 2)/2, phi' = e^(-u²/2)/sqrt(2 pi).
struct ErfGate {
    template <class A>
    static __device__ __forceinline__ Gate<A> at(A u) {
        const A half = static_cast<A>(0.5), root_half = static_cast<A>(0.70710678118654752);
        return {half * erfc_of(-u * root_half), exp_of(-half * u * u) * static_cast<A>(0.39894228040143268)};
    }
};

/// The same for 16-bit T. phi(-|u|) = e^(-u²/2) t p(t), t = 1/(1 + 0.26 |u|), with a polynomial p of degree 6: the form
/// of Hastings' approximations (Abramowitz & Stegun 7.1.26), fitted to the relative error instead, by Lawson's
/// iteration over 600 Chebyshev nodes in |u| <= 13.4; 2^-20. With f32's roundings it is 2^-19.1 for |u| < 5.7 and
/// 2^-17.8 for |u| < 13.1, beyond which phi(-|u|) leaves the normal numbers and becomes 0. Rounding to fp16 is 2^-12 or
/// more. The bound that linear_gelu_test.cpp holds for every 16-bit u: the rounded result but for 2^-17 of |u| phi, or
/// of phi + |u| phi'.
struct ErfGate16 {
    static __device__ __forceinline__ Gate<float> at(float u) {
        constexpr float kPolynomial[] = {-0.072636046f, 0.22808945f, -0.105629414f, 0.16618913f,
                                         0.07325279f,   0.10722407f, 0.10351048f};
        const float t = simt::ptx::reciprocal_approximate(fmaf(0.26f, fabsf(u), 1.0f));
        const float e = simt::ptx::exp2_approximate(u * u * -0.72134752f);  // log2(e) / 2
        float p = kPolynomial[0];
        SIMT_UNROLL
        for (int k = 1; k < 7; ++k) p = fmaf(p, t, kPolynomial[k]);
        const float tail = e * (t * p);
        return {u < 0 ? tail : 1.0f - tail, e * 0.39894228f};
    }
};

inline constexpr int kGeluThreads = 256;

template <class T, class Kind, int N>
__global__ void gelu_forward_kernel(T* out, const T* u, int64_t count) {
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    Accumulator<T> x[N];
    load(x, u + i);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) x[j] *= Kind::at(x[j]).phi;
    store(out + i, x);
}

template <class T, class Kind, int N>
__global__ void gelu_backward_kernel(T* gradient, const T* u, int64_t count) {
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    Accumulator<T> x[N], g[N];
    load(x, u + i);
    load(g, gradient + i);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) {
        const auto gate = Kind::at(x[j]);
        g[j] *= gate.phi + x[j] * gate.slope;
    }
    store(gradient + i, g);
}

}  // namespace ballast::cuda
