// Shared by every CPU kernel and independent of the SIMD target: accumulation types, blocks of work.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/dtype.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace ballast::cpu {

template <class T> struct AccumulatorOf {
    using type = T;
};
template <> struct AccumulatorOf<bf16> {
    using type = float;
};
/// The type in which arithmetic on T is done.
template <class T> using Accumulator = typename AccumulatorOf<T>::type;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t unit) { return ceil_div(a, unit) * unit; }

/// [0, count) divided into blocks of `block` elements; the last may be shorter. One block is one task of a parallel
/// loop.
struct Blocks {
    int64_t count, block;

    int64_t size() const { return ceil_div(count, block); }
    int64_t begin(int64_t i) const { return i * block; }
    int64_t end(int64_t i) const { return std::min(count, (i + 1) * block); }
};

/// Elements per task of an element-wise op: a few microseconds of work, long enough to hide the cost of starting a
/// task.
inline constexpr int64_t kTaskElements = 16384;

/// Rows of `width` elements divided into tasks of about kTaskElements.
inline Blocks row_blocks(int64_t rows, int64_t width) {
    return {rows, std::max<int64_t>(1, kTaskElements / std::max<int64_t>(width, 1))};
}

/// Calls f(T{}) with the compute type that `dtype` names.
template <class F> void with_compute_type(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::f32: return f(float{});
        case Dtype::bf16: return f(bf16{});
        case Dtype::f64: return f(double{});
        default: require(false, "not a compute dtype");
    }
}

/// Calls f(A{}) with the accumulation type that `dtype` names.
template <class F> void with_accumulation_type(Dtype dtype, F&& f) {
    switch (dtype) {
        case Dtype::f32: return f(float{});
        case Dtype::f64: return f(double{});
        default: require(false, "not an accumulation dtype");
    }
}

}  // namespace ballast::cpu
