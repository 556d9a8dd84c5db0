// SwiGLU: out = silu(gate) up, silu(z) = z s(z), s(z) = 1 / (1 + e^-z) (Shazeer 2020, "GLU variants improve
// transformer").
//   backward: d_up = d_out silu(gate),  d_gate = d_out up s (1 + gate (1 - s))
// gate_up, d_gate_up [rows, 2F]: a row's gates, then its ups; out, d_out [rows, F]; all T, rounded once, computed in
// Accumulator<T>. Saved for the backward pass: gate_up. Overwrites; d_gate_up may be gate_up. A thread a pack of 16
// bytes of out, 256 threads a block, no shared memory. Bound by memory: 3 and 5 F sizeof(T) a row. Deterministic: every
// element has its own thread.
#pragma once

#include "kernels/cuda/sigmoid.cuh"

namespace ballast::cuda {

inline constexpr int kSwigluThreads = 256;

template <class T, int N>
__global__ void swiglu_forward_kernel(T* out, const T* gate_up, int64_t count, int64_t features) {
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    const T* from = gate_up + i + i / features * features;
    Accumulator<T> gate[N], up[N];
    load(gate, from);
    load(up, from + features);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) up[j] *= gate[j] * sigmoid(gate[j]);
    store(out + i, up);
}

template <class T, int N>
__global__ void swiglu_backward_kernel(T* d_gate_up, const T* d_out, const T* gate_up, int64_t count,
                                       int64_t features) {
    using A = Accumulator<T>;
    const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * N;
    if (i >= count) return;
    const int64_t at = i + i / features * features;
    A gate[N], up[N], g[N];
    load(gate, gate_up + at);
    load(up, gate_up + at + features);
    load(g, d_out + i);
    SIMT_UNROLL
    for (int j = 0; j < N; ++j) {
        const A s = sigmoid(gate[j]), d_silu = s * (A(1) + gate[j] * (A(1) - s));
        const A d_gate = g[j] * up[j] * d_silu;
        up[j] = g[j] * (gate[j] * s);
        gate[j] = d_gate;
    }
    store(d_gate_up + at, gate);
    store(d_gate_up + at + features, up);
}

}  // namespace ballast::cuda
