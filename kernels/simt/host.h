// CUDA C++'s device language for an ordinary host compiler. Kernels include it through simt.cuh and are compiled like
// any other C++ (with sanitizers, if enabled). The declarations in `host` are defined in runtime/, which is never
// compiled with sanitizers.
#pragma once

#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "kernels/simt/options.h"
#include "kernels/simt/types.h"

#define __host__
#define __device__
#define __global__
#define __constant__ static
#define __grid_constant__
#define __restrict__ __restrict
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)

// Variables, not macros: `gridDim` is also a member of CUDA's structs.
extern constinit thread_local uint3 threadIdx, blockIdx;
extern constinit thread_local dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

namespace ballast::simt {

/// Dynamic shared memory of a launch; `gaps` of the bytes exist only to be poisoned (smem.cuh).
struct SharedBytes {
    size_t bytes = 0, gaps = 0;
};

/// A cp.async: reads `source_bytes`; the rest of `bytes` is set to zero.
struct AsyncCopy {
    void* target;
    const void* source;
    unsigned bytes, source_bytes;
};

namespace host {

/// Runs kernel(arguments) once for every thread of every block. Throws Error at the first fault.
void launch(dim3 grid, dim3 block, SharedBytes shared, void (*kernel)(void*), void* arguments);

void* dynamic_shared_memory();
void* static_shared_memory(const void* key, size_t bytes, size_t alignment);
/// The result of __cvta_generic_to_shared. Error when p is not in shared memory.
unsigned shared_offset(const void* p, Location);
void poison_gap(const void* p, size_t bytes);

struct BarrierVotes {
    int any, all, count;
};
/// Barrier `id` of the block for `threads` threads (0: all that have not exited).
BarrierVotes barrier_wait(int id, unsigned threads, int predicate, Location);
void barrier_arrive(int id, unsigned threads, Location);

enum class Shuffle { index, up, down, exclusive_or };
enum class Reduction { add, minimum, maximum, bit_and, bit_or, bit_xor };
uint64_t shuffle(Shuffle, unsigned mask, uint64_t value, int argument, int width, Location);
uint32_t reduce(Reduction, unsigned mask, uint32_t value, Location);
unsigned ballot(unsigned mask, bool predicate, Location);
unsigned match_any(unsigned mask, uint64_t value, Location);
void sync_warp(unsigned mask, Location);
int lane();
/// Lets other threads run; every loop that polls memory must call it.
void yield();

/// d = a b + c on one m16n8k16 tile of the warp.
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], Location);
void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4], Location);
/// Gives every lane the row addresses that all lanes passed to an ldmatrix of `matrices` matrices.
void gather_rows(const void* mine, const void* (&all)[32], unsigned matrices, Location);

void push_copy(const AsyncCopy&);
void commit_copies();
/// The next copy that must complete so that at most `groups_to_keep` groups stay pending; false when there is none.
bool pop_copy(unsigned groups_to_keep, AsyncCopy&);

[[noreturn]] void fail_at(const std::string& what, Location);

template <class T>
uint64_t to_bits(T value) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}
template <class T>
T from_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

/// An atomic read-modify-write, also between OS threads.
template <class T, class Change>
T atomic_update(T* p, Change change) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    Bits* bits = reinterpret_cast<Bits*>(p);
    Bits old = __atomic_load_n(bits, __ATOMIC_RELAXED);
    for (;;) {
        const T before = std::bit_cast<T>(old);
        const T after = static_cast<T>(change(before));
        if (__atomic_compare_exchange_n(bits, &old, std::bit_cast<Bits>(after), false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED))
            return before;
    }
}

}  // namespace host
}  // namespace ballast::simt

// ---- barriers -------------------------------------------------------------------------------------------------------

inline void __syncthreads(ballast::simt::Location where = ballast::simt::Location::current()) {
    ballast::simt::host::barrier_wait(0, 0, 0, where);
}
inline int __syncthreads_and(int predicate, ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::barrier_wait(0, 0, predicate, where).all;
}
inline int __syncthreads_or(int predicate, ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::barrier_wait(0, 0, predicate, where).any;
}
inline int __syncthreads_count(int predicate, ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::barrier_wait(0, 0, predicate, where).count;
}
inline void __syncwarp(unsigned mask = ~0u, ballast::simt::Location where = ballast::simt::Location::current()) {
    ballast::simt::host::sync_warp(mask, where);
}
// The executor is sequentially consistent, so fences have no additional effect.
inline void __threadfence() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_signal_fence(__ATOMIC_SEQ_CST); }
inline void __nanosleep(unsigned) { ballast::simt::host::yield(); }
[[noreturn]] inline void __trap(ballast::simt::Location where = ballast::simt::Location::current()) {
    ballast::simt::host::fail_at("__trap()", where);
}

// ---- warp functions: they order no memory, as on a GPU; only __syncwarp does ----------------------------------------

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              ballast::simt::Location where = ballast::simt::Location::current()) {
    using namespace ballast::simt::host;
    return from_bits<T>(shuffle(Shuffle::index, mask, to_bits(value), source, width, where));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 ballast::simt::Location where = ballast::simt::Location::current()) {
    using namespace ballast::simt::host;
    return from_bits<T>(shuffle(Shuffle::up, mask, to_bits(value), static_cast<int>(delta), width, where));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   ballast::simt::Location where = ballast::simt::Location::current()) {
    using namespace ballast::simt::host;
    return from_bits<T>(shuffle(Shuffle::down, mask, to_bits(value), static_cast<int>(delta), width, where));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  ballast::simt::Location where = ballast::simt::Location::current()) {
    using namespace ballast::simt::host;
    return from_bits<T>(shuffle(Shuffle::exclusive_or, mask, to_bits(value), lanes, width, where));
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::ballot(mask, predicate != 0, where);
}
inline int __any_sync(unsigned mask, int predicate,
                      ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::ballot(mask, predicate != 0, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::ballot(mask, predicate == 0, where) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::match_any(mask, ballast::simt::host::to_bits(value), where);
}
inline unsigned __reduce_add_sync(unsigned mask, unsigned value,
                                  ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::reduce(ballast::simt::host::Reduction::add, mask, value, where);
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value,
                                  ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::reduce(ballast::simt::host::Reduction::minimum, mask, value, where);
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value,
                                  ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::reduce(ballast::simt::host::Reduction::maximum, mask, value, where);
}
inline unsigned __reduce_or_sync(unsigned mask, unsigned value,
                                 ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::reduce(ballast::simt::host::Reduction::bit_or, mask, value, where);
}

// ---- atomics --------------------------------------------------------------------------------------------------------

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
    return ballast::simt::host::atomic_update(p, [value](T old) { return old + value; });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> value) {
    return ballast::simt::host::atomic_update(p, [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> value) {
    return ballast::simt::host::atomic_update(p, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicOr(T* p, std::type_identity_t<T> value) {
    return ballast::simt::host::atomic_update(p, [value](T old) { return old | value; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> value) {
    return ballast::simt::host::atomic_update(p, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
    return ballast::simt::host::atomic_update(p, [compare, value](T old) { return old == compare ? value : old; });
}

// ---- arithmetic. glibc's <math.h> declares __expf and others without exporting them, so these are macros ------------

#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __saturatef(float x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
template <class T>
T __ldg(const T* p) {
    return *p;
}
template <class T>
T __ldcs(const T* p) {
    return *p;
}
template <class T>
void __stcs(T* p, const std::type_identity_t<T>& value) {
    *p = value;
}
inline size_t __cvta_generic_to_shared(const void* p,
                                       ballast::simt::Location where = ballast::simt::Location::current()) {
    return ballast::simt::host::shared_offset(p, where);
}
template <class A, class B>
constexpr auto min(A a, B b) {
    using Common = std::common_type_t<A, B>;
    return static_cast<Common>(b) < static_cast<Common>(a) ? static_cast<Common>(b) : static_cast<Common>(a);
}
template <class A, class B>
constexpr auto max(A a, B b) {
    using Common = std::common_type_t<A, B>;
    return static_cast<Common>(a) < static_cast<Common>(b) ? static_cast<Common>(b) : static_cast<Common>(a);
}
