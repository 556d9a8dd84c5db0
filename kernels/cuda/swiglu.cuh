// SwiGLU: out = silu(gate) up, silu(z) = z s(z), s(z) = 1 / (1 + e^-z) (Shazeer 2020, "GLU variants improve
// transformer").
//   backward: d_up = d_out silu(gate),  d_gate = d_out up s (1 + gate (1 - s))
// gate_up, d_gate_up [rows, 2F]: a row's gates, then its ups; out, d_out [rows, F]; all T, rounded once, computed in
// Accumulator<T>. Saved for the backward pass: gate_up. Overwrites; d_gate_up may be gate_up. A thread a pack of 16
// bytes of out, 256 threads a block, no shared memory and no division of places. Bound by memory: 3 and 5 F sizeof(T) a
// row. Deterministic: every element has its own thread.
#pragma once

#include "kernels/cuda/sigmoid.cuh"

namespace ballast::cuda {

inline constexpr int kSwigluThreads = 256;

/// The index of pack i's first gate, whose ups lie `features` packs further.
template <int N>
__device__ __forceinline__ uint64_t gates_of(uint32_t i, const Divisor& features) {
    return (i + uint64_t{features.divide(i).quotient} * features.value()) * N;
}

/// `count` and `features` are in packs of N.
template <class T, int N>
__global__ void swiglu_forward_kernel(T* out, const T* gate_up, uint32_t count, Divisor features) {
    const uint32_t i = blockIdx.x * kSwigluThreads + threadIdx.x;
    if (i >= count) return;
    const T* from = gate_up + gates_of<N>(i, features);
    Accumulator<T> gate[N], up[N];
    load(gate, from);
    load(up, from + uint64_t{features.value()} * N);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) up[j] *= gate[j] * sigmoid(gate[j]);
    store(out + uint64_t{i} * N, up);
}

template <class T, int N>
__global__ void swiglu_backward_kernel(T* d_gate_up, const T* d_out, const T* gate_up, uint32_t count,
                                       Divisor features) {
    using A = Accumulator<T>;
    const uint32_t i = blockIdx.x * kSwigluThreads + threadIdx.x;
    if (i >= count) return;
    const uint64_t at = gates_of<N>(i, features), further = uint64_t{features.value()} * N;
    A gate[N], up[N], g[N];
    load(gate, gate_up + at);
    load(up, gate_up + at + further);
    load(g, d_out + uint64_t{i} * N);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) {
        const A s = sigmoid(gate[j]), d_silu = s * (A(1) + gate[j] * (A(1) - s));
        const A d_gate = g[j] * up[j] * d_silu;
        up[j] = g[j] * (gate[j] * s);
        gate[j] = d_gate;
    }
    store(d_gate_up + at, gate);
    store(d_gate_up + at + further, up);
}

}  // namespace ballast::cuda
