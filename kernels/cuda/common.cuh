// Shared by all CUDA kernels: types, wide loads and stores, sums over warps and blocks, and the host side of a launch.
#pragma once

#include <bit>

#include "base/tensor.h"
#include "kernels/context.h"
#include "kernels/simt/simt.cuh"

namespace ballast::cuda {

using simt::launch;

template <class T>
struct AccumulatorOf {
    using type = T;
};
template <>
struct AccumulatorOf<__nv_bfloat16> {
    using type = float;
};
template <>
struct AccumulatorOf<__half> {
    using type = float;
};
/// The type in which arithmetic on T is done.
template <class T>
using Accumulator = typename AccumulatorOf<T>::type;

/// Calls f(T{}) with the type `dtype` names. f64 exists under the executor only, where finite differences are taken.
template <class F>
void with_compute_type(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::f32: return f(float{});
        case Dtype::bf16: return f(__nv_bfloat16{});
        case Dtype::f16: return f(__half{});
#if BALLAST_SIMT_HOST
        case Dtype::f64: require(!simt::options().strict, "f64 is not for a GPU"); return f(double{});
#endif
        default: require(false, "a dtype without CUDA kernels");
    }
}
template <class F>
void with_accumulation_type(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::f32: return f(float{});
#if BALLAST_SIMT_HOST
        case Dtype::f64: require(!simt::options().strict, "f64 is not for a GPU"); return f(double{});
#endif
        default: require(false, "a dtype without CUDA kernels");
    }
}

/// The tensor's memory, as the device's type for its dtype; nullptr for an absent tensor.
template <class T>
T* data_of(const Tensor& tensor) {
    return static_cast<T*>(tensor.data);
}

/// The size of an array in scratch memory, rounded up so that the next array has the alignment of allocated memory.
constexpr size_t padded(size_t bytes) { return (bytes + 255) / 256 * 256; }

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Blocks of `per_block` that cover `count`, for gridDim.x.
inline dim3 grid_of(int64_t count, int64_t per_block) {
    const int64_t blocks = ceil_div(count, per_block);
    require(blocks <= INT32_MAX, "a launch of too many blocks");
    return dim3(static_cast<unsigned>(blocks));
}

/// The number of units of a kernel that counts them in 31 bits, for Divisor.
inline uint32_t units_of(int64_t count) {
    require(0 <= count && count <= INT32_MAX, "a launch of more units than 31 bits count");
    return static_cast<uint32_t>(count);
}

/// Divides by a number that the host knows, by a multiplication and a shift (Granlund & Montgomery 1994, "Division by
/// invariant integers using multiplication", figure 4.1). A division on a GPU takes 20 instructions or, in 64 bits, 20
/// to 100, some of them at a quarter of the rate.
class Divisor {
  public:
    Divisor() = default;  // by 1
    explicit Divisor(int64_t value)
        : value_(units_of(value)), shift_(static_cast<uint32_t>(std::bit_width(value_ - 1))) {
        require(value > 0, "a division by 0");
        multiplier_ = static_cast<uint32_t>((((uint64_t{1} << shift_) - value_) << 32) / value_ + 1);
    }

    struct Parts {
        uint32_t quotient, remainder;
    };
    /// For n < 2^31, so that the sum does not overflow.
    __device__ __forceinline__ Parts divide(uint32_t n) const {
        const uint32_t quotient = (static_cast<uint32_t>(uint64_t{n} * multiplier_ >> 32) + n) >> shift_;
        return {quotient, n - quotient * value_};
    }
    __device__ __forceinline__ uint32_t value() const { return value_; }

  private:
    uint32_t value_ = 1, multiplier_ = 1, shift_ = 0;
};

// ---- on the device --------------------------------------------------------------------------------------------------

inline constexpr unsigned kWarpSize = 32, kAllLanes = 0xffffffffu;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(int8_t x) { return static_cast<float>(x); }

/// x rounded to T.
template <class T>
__device__ __forceinline__ T narrow(Accumulator<T> x) {
    if constexpr (std::is_same_v<T, __nv_bfloat16>)
        return __float2bfloat16_rn(x);
    else if constexpr (std::is_same_v<T, __half>)
        return __float2half_rn(x);
    else
        return x;
}

// One name for float and double.
__device__ __forceinline__ float exp_of(float x) { return expf(x); }
__device__ __forceinline__ double exp_of(double x) { return exp(x); }
__device__ __forceinline__ float log_of(float x) { return logf(x); }
__device__ __forceinline__ double log_of(double x) { return log(x); }
__device__ __forceinline__ float sqrt_of(float x) { return sqrtf(x); }
__device__ __forceinline__ double sqrt_of(double x) { return sqrt(x); }
__device__ __forceinline__ float erfc_of(float x) { return erfcf(x); }
__device__ __forceinline__ double erfc_of(double x) { return erfc(x); }

__device__ __forceinline__ bool is_finite(double x) { return x - x == 0; }

/// N neighbours, moved by one instruction of N sizeof(T) bytes.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
    T v[N];
};
/// As many as 16 bytes hold.
template <class T>
inline constexpr int kPackSize = 16 / sizeof(T);

/// True when rows of `width` elements from `p` on can be moved in complete packs.
template <class T>
bool can_pack(const void* p, int64_t width) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && width % kPackSize<T> == 0;
}
template <class T, class... Pointers>
bool can_pack_all(int64_t width, Pointers... pointers) {
    return (can_pack<T>(pointers, width) && ...);
}

/// Reads N elements at p into accumulators.
template <int N, class T>
__device__ __forceinline__ void load(Accumulator<T> (&to)[N], const T* p) {
    const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(p);
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) to[i] = widen(pack.v[i]);
}
template <int N, class T>
__device__ __forceinline__ void store(T* p, const Accumulator<T> (&from)[N]) {
    Pack<T, N> pack;
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) pack.v[i] = narrow<T>(from[i]);
    *reinterpret_cast<Pack<T, N>*>(p) = pack;
}
/// The same for `scale` times N narrower elements.
template <int N, class T, class W>
__device__ __forceinline__ void store_scaled(T* p, const W* narrower, Accumulator<T> scale) {
    const Pack<W, N> pack = *reinterpret_cast<const Pack<W, N>*>(narrower);
    Accumulator<T> x[N];
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) x[i] = widen(pack.v[i]) * scale;
    store(p, x);
}
/// Whether rows of `width` elements of T can be written by it in packs of kPackSize<T>.
template <class T>
bool can_pack_scaled(const void* p, const void* narrower, int64_t width) {
    return can_pack<T>(p, width) && can_pack<T>(narrower, width);
}

/// The sum over the warp's 32 lanes, in every lane; one order of additions.
template <class A>
__device__ __forceinline__ A warp_sum(A x) {
    SIMT_UNROLL
    for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(kAllLanes, x, lanes);
    return x;
}
template <class A>
__device__ __forceinline__ A warp_max(A x) {
    SIMT_UNROLL
    for (int lanes = 16; lanes > 0; lanes /= 2) {
        const A other = __shfl_xor_sync(kAllLanes, x, lanes);
        x = x < other || other != other ? other : x;  // a NaN wins
    }
    return x;
}

/// The sum over a one-dimensional block of complete warps, in every thread. `partials` is shared memory for 32 values
/// that is not used for anything else. The call ends with a barrier, so `partials` can be used again.
template <class A>
__device__ __forceinline__ A block_sum(A x, A* partials) {
    const unsigned warp = threadIdx.x / kWarpSize, lane = threadIdx.x % kWarpSize, warps = blockDim.x / kWarpSize;
    x = warp_sum(x);
    if (lane == 0) partials[warp] = x;
    __syncthreads();
    x = warp_sum(lane < warps ? partials[lane] : A(0));
    __syncthreads();
    return x;
}

}  // namespace ballast::cuda
