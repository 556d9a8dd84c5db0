// Rotary position embedding, and the QKV split fused with it: z_low' = z_low cos - z_high sin, z_high' = z_high cos +
// z_low sin for pairs (i, i + R/2) of the first R dims; the rest is copied. Backward is the rotation by the negative
// angle. A thread takes one element of each half (or one that is only copied), so every byte is moved once.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

/// A strided [B,T,H,D] view.
template <class T>
struct Heads {
    T* data;
    int64_t batch_stride, step_stride, head_stride;

    __device__ __forceinline__ T* row(int64_t b, int64_t t, int64_t h) const {
        return data + b * batch_stride + t * step_stride + h * head_stride;
    }
};

/// Where a tensor's heads come from and go to; up to three of them (q, k, v) in one launch, by blockIdx.y. `rotated` is
/// 0 for what is only copied.
template <class T>
struct Rotation {
    Heads<T> out;
    Heads<const T> x;
    int64_t rotated;
};
template <class T>
struct Rotations {
    Rotation<T> part[3];
};

/// Angles of step t are in row min(first + t, last) of the table [., R]: cos, then sin.
template <class A>
struct Angles {
    const A* table;
    int64_t first, last, width;
};

/// One thread for each of the `count` = B T H D elements of a part.
template <class T>
__global__ void rotate_kernel(Rotations<T> rotations, Angles<Accumulator<T>> angles, int64_t steps, int64_t heads,
                              int64_t dims, int64_t count, Accumulator<T> sign) {
    using A = Accumulator<T>;
    const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const Rotation<T>& r = rotations.part[blockIdx.y];
    const int64_t d = i % dims, h = i / dims % heads, n = i / (dims * heads), t = n % steps, b = n / steps;
    const int64_t half = r.rotated / 2;
    const T* from = r.x.row(b, t, h);
    T* to = r.out.row(b, t, h);
    if (d >= r.rotated) {
        to[d] = from[d];
    } else if (d < half) {  // the thread of the upper half's element has nothing left to do
        const int64_t position = min(angles.first + t, angles.last);
        const A cosine = angles.table[position * angles.width + d];
        const A sine = angles.table[position * angles.width + half + d] * sign;
        const A low = widen(from[d]), high = widen(from[half + d]);
        to[d] = narrow<T>(low * cosine - high * sine);
        to[half + d] = narrow<T>(high * cosine + low * sine);
    }
}

}  // namespace ballast::cuda
