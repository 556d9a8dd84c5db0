// A gate for every head: out = x s(g), s(g) = 1 / (1 + e^-g) (Qiu et al. 2025, arXiv:2505.06708).
//   backward: d_x = d_out s(g),  d_g = s (1 - s) sum over D of d_out x
// x, out, d_out, d_x [rows, D], gate, d_gate [rows], a row for every token and head; all T, rounded once, computed in
// Accumulator<T>. Saved for the backward pass: x and gate. Overwrites; out may be x, d_x may be d_out.
// Launch: eight neighbouring lanes share a row and take packs of 16 bytes (or elements) in turn; 256 threads per block,
// no shared memory and no division. Bound by memory: 2 and 3 D sizeof(T) per row. Deterministic: a row's sum has one
// order.
#pragma once

#include "kernels/cuda/sigmoid.cuh"

namespace ballast::cuda {

inline constexpr int kGateThreads = 256, kGateLanes = 8, kGateRows = kGateThreads / kGateLanes;

template <class T, int N>
__global__ void head_gate_forward_kernel(T* out, const T* x, const T* gate, int64_t rows, int dims) {
    const int64_t row = int64_t{blockIdx.x} * kGateRows + threadIdx.x / kGateLanes;
    if (row >= rows) return;
    const Accumulator<T> s = sigmoid(widen(gate[row]));
    for (int i = static_cast<int>(threadIdx.x) % kGateLanes * N; i < dims; i += kGateLanes * N) {
        Accumulator<T> v[N];
        load(v, x + row * dims + i);
        SIMT_UNROLL
        for (int j = 0; j < N; ++j) v[j] *= s;
        store(out + row * dims + i, v);
    }
}

template <class T, int N>
__global__ void head_gate_backward_kernel(T* d_x, T* d_gate, const T* d_out, const T* x, const T* gate, int64_t rows,
                                          int dims) {
    using A = Accumulator<T>;
    const int64_t row = int64_t{blockIdx.x} * kGateRows + threadIdx.x / kGateLanes;
    const int lane = static_cast<int>(threadIdx.x) % kGateLanes;
    const A s = row < rows ? sigmoid(widen(gate[row])) : A(0);
    A sum = 0;
    if (row < rows)
        for (int i = lane * N; i < dims; i += kGateLanes * N) {
            A v[N], g[N];
            load(v, x + row * dims + i);
            load(g, d_out + row * dims + i);
            SIMT_UNROLL
            for (int j = 0; j < N; ++j) {
                sum += g[j] * v[j];
                g[j] *= s;
            }
            store(d_x + row * dims + i, g);
        }
    SIMT_UNROLL
    for (int lanes = kGateLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
    if (row < rows && lane == 0) d_gate[row] = narrow<T>(sum * s * (A(1) - s));
}

}  // namespace ballast::cuda
