// Shared by the kernels of the paged cache: blocks of rows, and the logits and weighted sums of a block for the query
// heads of a group (compiled once for every target).

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

/// Block w of the slots that (b, g) reads, with its rows in use; there may be none.
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
    /// The block's first row in one of the cache's tensors.
    template <class C>
    const C* in(const Tensor& x_PRD) const {
        return x_PRD.ptr<C>() + block * kCacheBlockRows * x_PRD.dim(2);
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

// Rows of D elements are processed in chunks of two runs of virtual lanes. bf16 is widened in registers without
// shuffles: in 32 bits that hold two neighbours, one shift gives the first as a float and one mask gives the second. So
// the first run of a chunk holds its even elements and the second run its odd ones. Vectors that are multiplied with
// rows or summed from rows (q, o) are kept in the same order: element d at packed_index<C>(d). Wider types keep their
// order.

template <class A>
inline constexpr int64_t kCacheChunk = 2 * LaneSum<A>::kLanes;

template <class C, class A>
constexpr int64_t packed_index(int64_t d) {
    if constexpr (std::is_same_v<C, A>) return d;
    const int64_t at = d % kCacheChunk<A>;
    return d - at + at % 2 * LaneSum<A>::kLanes + at / 2;
}

/// The native vectors of part `part` of both runs of the chunk at p.
template <class A, class D, class V>
HWY_INLINE void load_chunk(D d, const A* p, int64_t part, V& first, V& second) {
    first = hn::LoadU(d, p + part * LaneSum<A>::kNative);
    second = hn::LoadU(d, p + LaneSum<A>::kLanes + part * LaneSum<A>::kNative);
}
template <class A, class D, class V>
HWY_INLINE void load_chunk(D d, const bf16* p, int64_t part, V& first, V& second) {
    const hn::Repartition<uint16_t, D> d16;
    const hn::Repartition<uint32_t, D> d32;
    const auto pairs = hn::BitCast(d32, hn::LoadU(d16, &p[2 * part * LaneSum<A>::kNative].bits));
    first = hn::BitCast(d, hn::ShiftLeft<16>(pairs));
    second = hn::BitCast(d, hn::And(pairs, hn::Set(d32, 0xffff0000u)));
}

/// The chunk of a row that begins at element c: a pointer into the row, or a copy padded with 0 when the row ends in
/// it.
template <class A, class C>
HWY_INLINE const C* whole_chunk(const C* row, int64_t c, int64_t dims, C* copy) {
    if (HWY_LIKELY(c + kCacheChunk<A> <= dims)) return row + c;
    std::memset(static_cast<void*>(copy), 0, kCacheChunk<A> * sizeof(C));
    for (int64_t i = c; i < dims; ++i) copy[i - c] = row[i];
    return copy;
}

/// Rows of keys or values of a block, given by a list of the visible ones.
template <class C>
struct SeenRows {
    const C* first;  // the block's first row
    const int32_t* rows;
    int64_t count, dims;
    const C* operator[](int64_t n) const { return first + rows[n] * dims; }
};

/// Adds the upper half of the lanes to the lower one until 16 bytes are left.
template <class D, class V>
HWY_INLINE auto fold_to_16_bytes(D d, V v) {
    if constexpr (hn::MaxLanes(d) * sizeof(hn::TFromD<D>) > 16) {
        const hn::Half<D> half;
        return fold_to_16_bytes(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
    } else {
        return v;
    }
}

/// The number of keys whose sums are reduced together.
template <class A>
inline constexpr int kFoldedKeys = 16 / static_cast<int>(sizeof(A));

/// logits[h][n] = q_h . k_n for `heads` heads. Takes kFoldedKeys keys at a time; the list is padded to a multiple of
/// them. `whole`: rows consist of whole chunks.
template <int heads, bool whole, class A, class C>
HWY_NOINLINE void logits_of_heads(A* logits, const A* q, int64_t stride, const SeenRows<C>& k) {
    using Sum = LaneSum<A>;
    using V = hn::Vec<typename Sum::D>;
    constexpr int kKeys = kFoldedKeys<A>;
    const typename Sum::D d;
    const hn::CappedTag<A, kKeys> folded;
    alignas(64) C copy[kKeys][kCacheChunk<A>];
    for (int64_t n = 0; n < k.count; n += kKeys) {
        V sums[heads][kKeys][Sum::kParts];
        const C* rows[kKeys];
        for (int i = 0; i < kKeys; ++i) {
            rows[i] = k[n + i];
            for (int h = 0; h < heads; ++h)
                for (int64_t part = 0; part < Sum::kParts; ++part) sums[h][i][part] = hn::Zero(d);
        }
        for (int64_t c = 0; c < k.dims; c += kCacheChunk<A>) {
            const C* chunks[kKeys];
            for (int i = 0; i < kKeys; ++i)
                chunks[i] = whole ? rows[i] + c : whole_chunk<A>(rows[i], c, k.dims, copy[i]);
            for (int64_t part = 0; part < Sum::kParts; ++part) {
                V first[kKeys], second[kKeys], q_first, q_second;
                for (int i = 0; i < kKeys; ++i) load_chunk<A>(d, chunks[i], part, first[i], second[i]);
                for (int h = 0; h < heads; ++h) {
                    load_chunk<A>(d, q + h * stride + c, part, q_first, q_second);
                    for (int i = 0; i < kKeys; ++i) {
                        sums[h][i][part] = hn::MulAdd(q_first, first[i], sums[h][i][part]);
                        sums[h][i][part] = hn::MulAdd(q_second, second[i], sums[h][i][part]);
                    }
                }
            }
        }
        for (int h = 0; h < heads; ++h) {
            hn::Vec<decltype(folded)> totals[kKeys];
            for (int i = 0; i < kKeys; ++i) {
                for (int64_t half = Sum::kParts / 2; half > 0; half /= 2)
                    for (int64_t part = 0; part < half; ++part)
                        sums[h][i][part] = hn::Add(sums[h][i][part], sums[h][i][part + half]);
                totals[i] = fold_to_16_bytes(d, sums[h][i][0]);
            }
            transpose_square(folded, totals);
            if constexpr (kKeys == 4) {
                totals[0] = hn::Add(totals[0], totals[2]);
                totals[1] = hn::Add(totals[1], totals[3]);
            }
            hn::StoreU(hn::Add(totals[0], totals[1]), folded, logits + h * kCacheBlockRows + n);
        }
    }
}

/// o_h += sum of p[h][n] v_n over the elements of `chunks` chunks from `begin` on; the sums stay in registers. `whole`:
/// rows continue to the end of the last chunk.
template <int heads, int chunks, bool whole, class A, class C>
HWY_NOINLINE void values_of_heads(A* o, int64_t stride, const A* p, const SeenRows<C>& v, int64_t begin) {
    using Sum = LaneSum<A>;
    using V = hn::Vec<typename Sum::D>;
    constexpr int kParts = static_cast<int>(Sum::kParts), kVectors = chunks * kParts;
    const typename Sum::D d;
    V first_sum[heads][kVectors], second_sum[heads][kVectors];
    alignas(64) C copy[kCacheChunk<A>];
    o += begin;
    for (int h = 0; h < heads; ++h)
        for (int i = 0; i < kVectors; ++i)
            load_chunk<A>(d, o + h * stride + i / kParts * kCacheChunk<A>, i % kParts, first_sum[h][i],
                          second_sum[h][i]);
    for (int64_t n = 0; n < v.count; ++n) {
        const C* row = whole ? v[n] + begin : whole_chunk<A>(v[n], begin, v.dims, copy);
        for (int i = 0; i < kVectors; ++i) {
            V first, second;
            load_chunk<A>(d, row + i / kParts * kCacheChunk<A>, i % kParts, first, second);
            for (int h = 0; h < heads; ++h) {
                const V weight = hn::Set(d, p[h * kCacheBlockRows + n]);
                first_sum[h][i] = hn::MulAdd(weight, first, first_sum[h][i]);
                second_sum[h][i] = hn::MulAdd(weight, second, second_sum[h][i]);
            }
        }
    }
    for (int h = 0; h < heads; ++h)
        for (int i = 0; i < kVectors; ++i) {
            A* to = o + h * stride + i / kParts * kCacheChunk<A> + i % kParts * Sum::kNative;
            hn::StoreU(first_sum[h][i], d, to);
            hn::StoreU(second_sum[h][i], d, to + Sum::kLanes);
        }
}

/// Calls f.template operator()<heads>(first head) for runs of at most `most` heads, `most` <= 4.
template <int most, class F>
HWY_INLINE void for_runs_of_heads(int64_t heads, const F& f) {
    for (int64_t h = 0; h < heads; h += most) switch (std::min<int64_t>(most, heads - h)) {
            case 1: f.template operator()<1>(h); break;
            case 2: f.template operator()<std::min(2, most)>(h); break;
            case 3: f.template operator()<std::min(3, most)>(h); break;
            default: f.template operator()<most>(h); break;
        }
}

/// True when there are 32 vectors of 64 bytes, false when there are 16 shorter ones.
template <class A>
inline constexpr bool kManyRegisters = LaneSum<A>::kParts == 1;

/// logits [heads, kCacheBlockRows] of the visible keys of a block.
template <class A, class C>
HWY_INLINE void block_logits(A* logits, const A* q, int64_t stride, int64_t heads, const SeenRows<C>& k) {
    for_runs_of_heads<kManyRegisters<A> ? 4 : 1>(heads, [&]<int count>(int64_t h) HWY_ATTR {
        if (k.dims % kCacheChunk<A> == 0)
            logits_of_heads<count, true>(logits + h * kCacheBlockRows, q + h * stride, stride, k);
        else
            logits_of_heads<count, false>(logits + h * kCacheBlockRows, q + h * stride, stride, k);
    });
}

/// o_h += sum of p[h][n] v_n.
template <class A, class C>
HWY_INLINE void block_values(A* o, int64_t stride, const A* p, int64_t heads, const SeenRows<C>& v) {
    constexpr int kHeads = kManyRegisters<A> ? 4 : 2, kChunks = kManyRegisters<A> ? 2 : 1;
    for (int64_t begin = 0; begin < v.dims;) {
        const int64_t chunks = (v.dims - begin) / kCacheChunk<A>;
        for_runs_of_heads<kHeads>(heads, [&]<int count>(int64_t h) HWY_ATTR {
            A* to = o + h * stride;
            const A* weights = p + h * kCacheBlockRows;
            if (chunks >= kChunks)
                values_of_heads<count, kChunks, true>(to, stride, weights, v, begin);
            else if (chunks == 1)
                values_of_heads<count, 1, true>(to, stride, weights, v, begin);
            else
                values_of_heads<count, 1, false>(to, stride, weights, v, begin);
        });
        begin += std::clamp<int64_t>(chunks, 1, kChunks) * kCacheChunk<A>;
    }
}

}  // namespace ballast::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
