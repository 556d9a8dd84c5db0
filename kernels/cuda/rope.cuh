// Rotary position embedding, and the QKV split fused with it: z_low' = z_low cos - z_high sin, z_high' = z_high cos +
// z_low sin for pairs (i, i + R/2) of the first R dims; the rest is copied. Backward is the rotation by the negative
// angle. x, out: strided [B,T,G,K,D] of T, table [P,R] of Accumulator<T>: cos, then sin.
//
// Launch: a thread owns one place in a token, for kTokensInFlight tokens. A place is N neighbours of a head or, where
// dims rotate, N low ones and their N high partners. So a place costs its divisions once per thread, and every byte
// moves once, N elements per instruction. blockIdx.x: tokens, .y: places, .z: the sequence. No shared memory, no sums.
// out may be x.
#pragma once

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

inline constexpr int kTokensInFlight = 4;

/// A strided [B,T,G,K,D] view.
template <class T>
struct Heads {
    T* data;
    int64_t batch_stride, step_stride, group_stride, head_stride;

    __device__ __forceinline__ T* at(int64_t b, int64_t t, uint32_t group, uint32_t head) const {
        return data + b * batch_stride + t * step_stride + group * group_stride + head * head_stride;
    }
};

/// Heads to rotate in the first 2 `half` dims; 0: to copy. A head has `units` places, the first `half` / N of them in
/// pairs. `first` is the index of the tensor's first place among the token's places.
template <class T>
struct RotatedHeads {
    Heads<T> out;
    Heads<const T> x;
    uint32_t heads_of_group, half, units, first;
};
inline constexpr int kMaxRotations = 3;
template <class T>
struct Rotations {
    RotatedHeads<T> part[kMaxRotations];  // absent ones begin at `places`
    uint32_t places;                      // of a token, over all parts
};

/// Token t of sequence b has position min(first + t, last) or, with `rows` [B,T], min(rows[b][t], last): a row of the
/// table [`count`, `width`].
template <class A>
struct Angles {
    const A* table;
    int64_t first, last;
    const int32_t* rows;
    int64_t count, width;

    /// nullptr: no such row. Only `rows` can give an invalid position; the host checks the others.
    __device__ __forceinline__ const A* of(int64_t b, int64_t t, int64_t steps) const {
        if (rows == nullptr) return table + min(first + t, last) * width;
        const int64_t position = min(int64_t{rows[b * steps + t]}, last);
        return 0 <= position && position < count ? table + position * width : nullptr;
    }
};

/// Reads the packs at `from` for the first `count` tokens.
template <class T, int N>
__device__ __forceinline__ void load_tokens(Pack<T, N> (&to)[kTokensInFlight], const T* from, int64_t step_stride,
                                            int count) {
    SIMT_UNROLL
    for (int k = 0; k < kTokensInFlight; ++k)
        if (k < count) to[k] = *reinterpret_cast<const Pack<T, N>*>(from + k * step_stride);
}

/// A 16-byte store as one instruction: nvcc 13 splits ordinary stores here, in some of the unrolled branches.
template <class T, int N>
__device__ __forceinline__ void store_pack(T* p, const Pack<T, N>& pack) {
    if constexpr (sizeof pack == sizeof(uint4)) {
        uint4 bits;
        memcpy(&bits, &pack, sizeof bits);
        __stcs(reinterpret_cast<uint4*>(p), bits);
    } else {
        *reinterpret_cast<Pack<T, N>*>(p) = pack;
    }
}

/// to[0, N) and to[half, half + N) = the pairs low and high, rotated by the angles with cos at `angles` and sin at
/// `half` further; NaN without angles.
template <class T, int N>
__device__ __forceinline__ void store_rotated(T* to, const Pack<T, N>& low, const Pack<T, N>& high, uint32_t half,
                                              const Accumulator<T>* angles, Accumulator<T> sign) {
    using A = Accumulator<T>;
    A cosine[N], sine[N];
    Pack<T, N> new_low, new_high;
    if (angles != nullptr) {
        load(cosine, angles);
        load(sine, angles + half);
    } else {
        SIMT_UNROLL
        for (int i = 0; i < N; ++i) cosine[i] = sine[i] = static_cast<A>(__int_as_float(0x7fffffff));
    }
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) {
        const A l = widen(low.v[i]), h = widen(high.v[i]), s = sine[i] * sign;
        new_low.v[i] = narrow<T>(l * cosine[i] - h * s);
        new_high.v[i] = narrow<T>(h * cosine[i] + l * s);
    }
    store_pack(to, new_low);
    store_pack(to + half, new_high);
}

template <class T, int N>
__global__ void rotate_kernel(const __grid_constant__ Rotations<T> rotations, Angles<Accumulator<T>> angles,
                              int64_t steps, Accumulator<T> sign) {
    const uint32_t place = blockIdx.y * blockDim.x + threadIdx.x;
    if (place >= rotations.places) return;
    // A copy: a parameter that is read between stores would keep the compiler from combining the stores.
    const RotatedHeads<T> r = rotations.part[(place >= rotations.part[1].first) + (place >= rotations.part[2].first)];
    const uint32_t index = place - r.first, head = index / r.units, unit = index % r.units;
    const uint32_t group = head / r.heads_of_group, head_in_group = head % r.heads_of_group, pairs = r.half / N;
    const bool is_pair = unit < pairs;
    const uint32_t d = (is_pair ? unit : unit + pairs) * N;  // upper halves belong to the places of the lower halves
    const int64_t b = blockIdx.z, first = int64_t{blockIdx.x} * kTokensInFlight;
    const T* from = r.x.at(b, first, group, head_in_group) + d;
    T* to = r.out.at(b, first, group, head_in_group) + d;
    const int count = static_cast<int>(min(int64_t{kTokensInFlight}, steps - first));

    Pack<T, N> low[kTokensInFlight];
    load_tokens(low, from, r.x.step_stride, count);
    if (!is_pair) {
        SIMT_UNROLL
        for (int k = 0; k < kTokensInFlight; ++k)
            if (k < count) store_pack(to + k * r.out.step_stride, low[k]);
        return;
    }
    Pack<T, N> high[kTokensInFlight];
    load_tokens(high, from + r.half, r.x.step_stride, count);
    SIMT_UNROLL
    for (int k = 0; k < kTokensInFlight; ++k) {
        if (k >= count) break;
        const Accumulator<T>* row = angles.of(b, first + k, steps);
        store_rotated(to + k * r.out.step_stride, low[k], high[k], r.half, row == nullptr ? nullptr : row + d, sign);
    }
}

}  // namespace ballast::cuda
