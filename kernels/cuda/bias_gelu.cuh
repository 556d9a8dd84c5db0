// Bias + GELU: gelu(u) = u phi(u) with u = x + bias, where phi is the normal distribution function or its tanh
// approximation. Backward: d_x = d_out (phi + u phi'), d_bias += column sums of d_x. Forward reads and writes each
// element once; backward reads two and writes one, and column sums stay in registers (column_sums.cuh).
#pragma once

#include "kernels/cuda/common.cuh"

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

template <class T, class Kind, int N>
__global__ void bias_gelu_forward_kernel(T* out, const T* x, const T* bias, int64_t count, int64_t features) {
    using A = Accumulator<T>;
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    A u[N], b[N];
    load(u, x + i);
    load(b, bias + i % features);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) {
        u[j] += b[j];
        u[j] *= Kind::at(u[j]).phi;
    }
    store(out + i, u);
}

/// d_x, and partials [gridDim.y, features] of d_bias over each block's rows.
template <class T, class Kind, int N>
__global__ void bias_gelu_backward_kernel(T* d_x, Accumulator<T>* partials, const T* d_out, const T* x, const T* bias,
                                          int64_t rows, int64_t rows_per_block, int64_t features) {
    using A = Accumulator<T>;
    const int64_t f = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (f >= features) return;
    const int64_t begin = blockIdx.y * rows_per_block, end = min(rows, begin + rows_per_block);
    A b[N], u[N], g[N], sum[N] = {};
    load(b, bias + f);
    for (int64_t row = begin; row < end; ++row) {
        load(u, x + row * features + f);
        load(g, d_out + row * features + f);
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) {
            const A at = u[j] + b[j];
            const Gate<A> gate = Kind::at(at);
            g[j] *= gate.phi + at * gate.slope;
            sum[j] += g[j];
        }
        store(d_x + row * features + f, g);
    }
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) partials[blockIdx.y * features + f + j] = sum[j];
}

}  // namespace ballast::cuda
