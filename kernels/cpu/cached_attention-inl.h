// What the paged cache's kernels share: blocks of rows, and logits and weighted sums of a block for the query heads of
// a group (compiled once for every target).

#include <hwy/highway.h>

#include "kernels/cached_attention_scratch.h"
#include "kernels/cpu/attention-inl.h"

#ifndef BALLAST_KERNELS_CPU_CACHED_ATTENTION_SHAPES_H_
#define BALLAST_KERNELS_CPU_CACHED_ATTENTION_SHAPES_H_
namespace ballast::cpu {

using ops::kCacheBlockRows;
using ops::kCacheSplitSlots;

/// Calls f(T{}, C{}) with the compute type and the cache's.
template <class F>
void with_cache_types(Dtype compute, Dtype cache, F&& f) {
    if (compute == Dtype::f32 && cache == Dtype::bf16) return f(float{}, bf16{});
    require(compute == cache, "the CPU has no kernel for this dtype of the cache");
    with_compute_type(compute, [&]<class T>(T) { f(T{}, T{}); });
}

/// Row n of head g of x [N,G,D].
template <class T>
T* matrix_row(const Tensor& x, int64_t n, int64_t g) {
    return static_cast<T*>(x.data) + n * x.stride[0] + g * x.stride[1];
}

/// Block w of what (b, g) reads: its rows in use, which may be none.
struct CacheBlock {
    int64_t block = -1, rows = 0;
    const int32_t* positions = nullptr;

    /// `bg` is b * G + g.
    CacheBlock(const PagedCache& cache, const CacheRows& all, int64_t bg, int64_t w)
        : rows(std::clamp<int64_t>(all.length_BG.ptr<int32_t>()[bg] - w * kCacheBlockRows, 0, kCacheBlockRows)) {
        if (rows == 0) return;
        require(w < all.table_BGW.dim(2), "a cache's length is beyond its table");
        block = all.table_BGW.ptr<int32_t>()[bg * all.table_BGW.dim(2) + w];
        require(0 <= block && block < cache.positions_PR.dim(0), "a table names a block that the cache has not");
        positions = cache.positions_PR.ptr<int32_t>() + block * kCacheBlockRows;
    }
    template <class C>
    const C* row(const Tensor& x_PRD, int64_t r) const {
        return x_PRD.ptr<C>() + (block * kCacheBlockRows + r) * x_PRD.dim(2);
    }
};

}  // namespace ballast::cpu
#endif

#if defined(BALLAST_KERNELS_CPU_CACHED_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef BALLAST_KERNELS_CPU_CACHED_ATTENTION_INL_H_
#undef BALLAST_KERNELS_CPU_CACHED_ATTENTION_INL_H_
#else
#define BALLAST_KERNELS_CPU_CACHED_ATTENTION_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace ballast::cpu::HWY_NAMESPACE {

/// logits[h][n] = q_h . k_n for the keys of a block that are seen, `keys` of them.
template <class A, class C>
HWY_INLINE void block_logits(A* logits, const A* q, int64_t q_stride, int64_t heads, const C* const* k, int64_t keys,
                             int64_t dims) {
    const hn::ScalableTag<A> d;
    for (int64_t n = 0; n < keys; ++n)
        for (int64_t h = 0; h < heads; ++h)
            logits[h * kCacheBlockRows + n] = reduce_sum<A>(dims, [&](int64_t i, auto lanes) HWY_ATTR {
                return hn::Mul(load(d, q + h * q_stride + i, lanes), load(d, k[n] + i, lanes));
            });
}

/// o_h += p[h][n] v_n.
template <class A, class C>
HWY_INLINE void block_values(A* o, int64_t o_stride, const A* p, int64_t heads, const C* const* v, int64_t keys,
                             int64_t dims) {
    const hn::ScalableTag<A> d;
    for (int64_t n = 0; n < keys; ++n)
        for (int64_t h = 0; h < heads; ++h) {
            const auto weight = hn::Set(d, p[h * kCacheBlockRows + n]);
            A* to = o + h * o_stride;
            for_vectors(d, dims, [&](int64_t i, auto lanes) HWY_ATTR {
                store(hn::MulAdd(weight, load(d, v[n] + i, lanes), load(d, to + i, lanes)), d, to + i, lanes);
            });
        }
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
