// SIMD helpers over Highway, compiled once for every target (so without an ordinary include guard).
//
// Kernels are written once for float, bf16 and double: load() widens to the accumulator, store() narrows. Results do
// not depend on the vector width. Element-wise code works lane by lane, and reductions run over kVirtualBytes of
// accumulator lanes on every target.

#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/common.h"
#include "kernels/context.h"

#if defined(BALLAST_KERNELS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_SIMD_INL_H_
#undef BALLAST_KERNELS_CPU_SIMD_INL_H_
#else
#define BALLAST_KERNELS_CPU_SIMD_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// A tag that means "all lanes" in place of a number of active lanes.
struct All {};

// ---- Loads and stores: A* or bf16* (loads: int8_t*), the whole vector or its first n lanes (the others are zero, or left alone) ----------

template <class D, class A> HWY_INLINE hn::Vec<D> load(D d, const A* p, All) { return hn::LoadU(d, p); }

template <class D> HWY_INLINE hn::Vec<D> load(D d, const bf16* p, All) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::Rebind<uint32_t, D> d32;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, &p->bits))));
}

template <class D> HWY_INLINE hn::Vec<D> load(D d, const int8_t* p, All) {
    const hn::Rebind<int8_t, D> d8;
    const hn::Rebind<int32_t, D> d32;
    return hn::ConvertTo(d, hn::PromoteTo(d32, hn::LoadU(d8, p)));
}

template <class D, class T> HWY_INLINE hn::Vec<D> load(D d, const T* p, int64_t n) {
    alignas(64) T lanes[hn::MaxLanes(d)] = {};
    std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(T));
    return load(d, lanes, All{});
}

/// Loads floats or doubles as doubles.
template <class D> HWY_INLINE hn::Vec<D> load_as_double(D d, const double* p, All) { return hn::LoadU(d, p); }
template <class D> HWY_INLINE hn::Vec<D> load_as_double(D d, const float* p, All) {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), p));
}
template <class D, class A> HWY_INLINE hn::Vec<D> load_as_double(D d, const A* p, int64_t n) {
    alignas(64) A lanes[hn::MaxLanes(d)] = {};
    std::memcpy(lanes, p, static_cast<size_t>(n) * sizeof(A));
    return load_as_double(d, lanes, All{});
}

template <class D, class A> HWY_INLINE void store(hn::Vec<D> v, D d, A* p, All) { hn::StoreU(v, d, p); }

/// Rounds to nearest even; NaNs stay (quiet) NaNs.
template <class D> HWY_INLINE void store(hn::Vec<D> v, D, bf16* p, All) {
    const hn::Rebind<uint16_t, D> d16;
    const hn::Rebind<uint32_t, D> d32;
    const hn::Rebind<int32_t, D> i32;
    const auto bits = hn::BitCast(d32, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1u));
    const auto rounded = hn::Add(hn::Add(bits, hn::Set(d32, 0x7fffu)), odd);
    const auto quiet = hn::Or(bits, hn::Set(d32, 0x400000u));
    const auto chosen = hn::IfThenElse(hn::RebindMask(d32, hn::IsNaN(v)), quiet, rounded);
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(i32, hn::ShiftRight<16>(chosen))), d16, &p->bits);
}

template <class D, class T> HWY_INLINE void store(hn::Vec<D> v, D d, T* p, int64_t n) {
    alignas(64) T lanes[hn::MaxLanes(d)];
    store(v, d, lanes, All{});
    std::memcpy(p, lanes, static_cast<size_t>(n) * sizeof(T));
}

template <class D> HWY_INLINE hn::Vec<D> zero_after(D, hn::Vec<D> v, All) { return v; }
template <class D> HWY_INLINE hn::Vec<D> zero_after(D d, hn::Vec<D> v, int64_t n) {
    return hn::IfThenElseZero(hn::FirstN(d, static_cast<size_t>(n)), v);
}

/// v in the active lanes, `other` in the rest.
template <class D> HWY_INLINE hn::Vec<D> first_or(D, hn::Vec<D> v, hn::Vec<D>, All) { return v; }
template <class D> HWY_INLINE hn::Vec<D> first_or(D d, hn::Vec<D> v, hn::Vec<D> other, int64_t n) {
    return hn::IfThenElse(hn::FirstN(d, static_cast<size_t>(n)), v, other);
}

/// body(i, lanes) for every vector of [0, count): lanes is All, or the number of elements left in the last one.
template <class D, class Body> HWY_INLINE void for_vectors(D d, int64_t count, Body body) {
    const int64_t width = static_cast<int64_t>(hn::Lanes(d));
    int64_t i = 0;
    for (; i + width <= count; i += width) body(i, All{});
    if (i < count) body(i, count - i);
}

// ---- Reductions --------------------------------------------------------------------------------------------------------

/// The bytes of accumulator lanes that every sum uses, on every target.
inline constexpr size_t kVirtualBytes = 64;

/// Reduces v's lanes by halves: lane i gets lane i + half.
template <class D> HWY_INLINE hn::TFromD<D> sum_in_halves(D, hn::Vec<D> v) {
    if constexpr (hn::MaxLanes(D()) == 1) {
        return hn::GetLane(v);
    } else {
        const hn::Half<D> half;
        return sum_in_halves(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
    }
}
/// The first of these reductions, for vectors that lie side by side. (Without loops, which would keep the vectors in
/// memory.)
template <class D, size_t kParts> HWY_INLINE hn::Vec<D> sum_of_parts(D, const hn::Vec<D> (&v)[kParts]) {
    static_assert(kParts == 1 || kParts == 2 || kParts == 4 || kParts == 8);
    if constexpr (kParts == 1)
        return v[0];
    else if constexpr (kParts == 2)
        return hn::Add(v[0], v[1]);
    else if constexpr (kParts == 4)
        return hn::Add(hn::Add(v[0], v[2]), hn::Add(v[1], v[3]));
    else
        return hn::Add(hn::Add(hn::Add(v[0], v[4]), hn::Add(v[2], v[6])), hn::Add(hn::Add(v[1], v[5]), hn::Add(v[3], v[7])));
}

/// Element i of the sum goes to lane i % kLanes; at the end the lanes are reduced by halves.
template <class A> class LaneSum {
  public:
    using D = hn::ScalableTag<A>;
    static constexpr int64_t kLanes = kVirtualBytes / sizeof(A);
    static constexpr int64_t kNative = static_cast<int64_t>(hn::MaxLanes(D()));
    static constexpr int64_t kParts = kLanes / kNative;

    HWY_INLINE LaneSum() {
        for (auto& part : parts_) part = hn::Zero(D());
    }
    HWY_INLINE void add(int64_t part, hn::Vec<D> v) { parts_[part] = hn::Add(parts_[part], v); }
    HWY_INLINE A total() const {
        return sum_in_halves(D(), sum_of_parts(D(), parts_));
    }

  private:
    hn::Vec<D> parts_[kParts];
};

/// body(part, i, lanes) for every native vector of [0, count), in steps of the virtual lanes, or of kTimes as many.
template <class A, int64_t kTimes = 1, class Body> HWY_INLINE void for_virtual_vectors(int64_t count, Body body) {
    using Sum = LaneSum<A>;
    constexpr int64_t kLanes = kTimes * Sum::kLanes, kParts = kTimes * Sum::kParts;
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (int64_t p = 0; p < kParts; ++p) body(p, i + p * Sum::kNative, All{});
    for (int64_t p = 0; p < kParts; ++p, i += Sum::kNative) {
        if (i + Sum::kNative <= count)
            body(p, i, All{});
        else if (i < count)
            body(p, i, count - i);
    }
}

/// Sum over i < count of term(i, lanes), a vector of accumulators.
template <class A, class Term> HWY_INLINE A reduce_sum(int64_t count, Term term) {
    LaneSum<A> sum;
    for_virtual_vectors<A>(count, [&](int64_t part, int64_t i, auto lanes) HWY_ATTR {
        sum.add(part, zero_after(typename LaneSum<A>::D(), term(i, lanes), lanes));
    });
    return sum.total();
}

/// Column sums are computed in blocks of rows, each with its own partial sums; the partial sums are then added in the
/// order of the blocks. Adds `count` rows of `width` partial sums, `stride` apart, to `sum`.
template <class A> void add_partials(Context& context, A* sum, const A* partials, int64_t count, int64_t stride, int64_t width) {
    const hn::ScalableTag<A> d;
    const Blocks strips{width, 256};
    context.pool().parallel_for(strips.size(), [&](int64_t strip) HWY_ATTR {
        const int64_t c0 = strips.begin(strip);
        for (int64_t p = 0; p < count; ++p)
            for_vectors(d, strips.end(strip) - c0, [&](int64_t i, auto lanes) HWY_ATTR {
                const auto total = hn::Add(load(d, sum + c0 + i, lanes), load(d, partials + p * stride + c0 + i, lanes));
                store(total, d, sum + c0 + i, lanes);
            });
    });
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
