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

    CacheBlock() = default;  // no rows
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

/// The native vector of part `part` of a run, the first or the second, of the chunk at p.
template <int run, class A, class D>
HWY_INLINE hn::Vec<D> load_run(D d, const A* p, int64_t part) {
    return hn::LoadU(d, p + run * LaneSum<A>::kLanes + part * LaneSum<A>::kNative);
}
template <int run, class A, class D>
HWY_INLINE hn::Vec<D> load_run(D d, const bf16* p, int64_t part) {
    const hn::Repartition<uint16_t, D> d16;
    const hn::Repartition<uint32_t, D> d32;
    const auto pairs = hn::BitCast(d32, hn::LoadU(d16, &p[2 * part * LaneSum<A>::kNative].bits));
    if constexpr (run == 0)
        return hn::BitCast(d, hn::ShiftLeft<16>(pairs));
    else
        return hn::BitCast(d, hn::And(pairs, hn::Set(d32, 0xffff0000u)));
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

/// to [whole chunks] = x [dims] times `scale`, in the order of packed_index<C>(), filled up with zeros.
template <class C, class A, class T>
HWY_INLINE void pack(A* to, const T* x, int64_t dims, A scale) {
    using Sum = LaneSum<A>;
    const typename Sum::D d;
    if constexpr (std::is_same_v<T, C>) {  // as a row of the cache is read
        const auto factor = hn::Set(d, scale);
        alignas(64) C copy[kCacheChunk<A>];
        for (int64_t c = 0; c < dims; c += kCacheChunk<A>) {
            const C* chunk = whole_chunk<A>(x, c, dims, copy);
            for (int64_t part = 0; part < Sum::kParts; ++part) {
                A* at = to + c + part * Sum::kNative;
                hn::StoreU(hn::Mul(load_run<0, A>(d, chunk, part), factor), d, at);
                hn::StoreU(hn::Mul(load_run<1, A>(d, chunk, part), factor), d, at + Sum::kLanes);
            }
        }
    } else {
        std::fill_n(to, round_up(dims, kCacheChunk<A>), A(0));
        for (int64_t i = 0; i < dims; ++i) to[packed_index<C, A>(i)] = static_cast<A>(x[i]) * scale;
    }
}

/// to [dims] = x, which is in the order of packed_index<C>().
template <class C, class A>
HWY_INLINE void unpack(A* to, const A* x, int64_t dims) {
    using Sum = LaneSum<A>;
    if constexpr (std::is_same_v<C, A>) {
        std::copy_n(x, dims, to);
    } else {
        const typename Sum::D d;
        const int64_t whole = dims / kCacheChunk<A> * kCacheChunk<A>;
        for (int64_t c = 0; c < whole; c += kCacheChunk<A>)
            for (int64_t part = 0; part < Sum::kParts; ++part) {
                const A* from = x + c + part * Sum::kNative;
                hn::StoreInterleaved2(hn::LoadU(d, from), hn::LoadU(d, from + Sum::kLanes), d,
                                      to + c + 2 * part * Sum::kNative);
            }
        for (int64_t i = whole; i < dims; ++i) to[i] = x[packed_index<C, A>(i)];
    }
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

/// True when there are 32 vectors of 64 bytes, false when there are 16 shorter ones.
template <class A>
inline constexpr bool kManyRegisters = LaneSum<A>::kParts == 1;
/// The number of keys whose sums are reduced together.
template <class A>
inline constexpr int kFoldedKeys = 16 / static_cast<int>(sizeof(A));
/// The number of keys whose sums are kept in registers for so many heads.
template <class A, int heads>
inline constexpr int kSummedKeys = kManyRegisters<A> || heads == 1 ? kFoldedKeys<A> : kFoldedKeys<A> / 2;

/// sums[h][i] += q_h . k_i over part `part` of a run of the chunks.
template <int run, class A, class D, int heads, int keys, int64_t parts, class C>
HWY_INLINE void add_products(D d, hn::Vec<D> (&sums)[heads][keys][parts], int64_t part, const A* q, int64_t stride,
                             const C* const (&chunks)[keys]) {
    hn::Vec<D> k[keys];
    for (int i = 0; i < keys; ++i) k[i] = load_run<run, A>(d, chunks[i], part);
    for (int h = 0; h < heads; ++h) {
        const auto x = load_run<run, A>(d, q + h * stride, part);
        for (int i = 0; i < keys; ++i) sums[h][i][part] = hn::MulAdd(x, k[i], sums[h][i][part]);
    }
}

/// totals[h][i] = q_h . rows_i, as 16 bytes of lanes whose sum it is.
template <int heads, bool whole, class A, int keys, class C, class Folded>
HWY_INLINE void sum_products(Folded (&totals)[heads][keys], const A* q, int64_t stride, const C* const (&rows)[keys],
                             int64_t dims) {
    using Sum = LaneSum<A>;
    const typename Sum::D d;
    hn::Vec<typename Sum::D> sums[heads][keys][Sum::kParts];
    for (auto& head : sums)
        for (auto& key : head)
            for (auto& part : key) part = hn::Zero(d);
    alignas(64) C copy[keys][kCacheChunk<A>];
    for (int64_t c = 0; c < dims; c += kCacheChunk<A>) {
        const C* chunks[keys];
        for (int i = 0; i < keys; ++i) chunks[i] = whole ? rows[i] + c : whole_chunk<A>(rows[i], c, dims, copy[i]);
        for (int64_t part = 0; part < Sum::kParts; ++part) {
            add_products<0>(d, sums, part, q + c, stride, chunks);
            add_products<1>(d, sums, part, q + c, stride, chunks);
        }
    }
    for (int h = 0; h < heads; ++h)
        for (int i = 0; i < keys; ++i) totals[h][i] = fold_to_16_bytes(d, sum_of_parts(d, sums[h][i]));
}

/// logits[h][n] = q_h . k_n for `heads` heads. Takes kFoldedKeys keys at a time; the list is padded to a multiple of
/// them. `whole`: rows consist of whole chunks.
template <int heads, bool whole, class A, class C>
HWY_NOINLINE void logits_of_heads(A* logits, const A* q, int64_t stride, const SeenRows<C>& k) {
    constexpr int kKeys = kFoldedKeys<A>, kSummed = kSummedKeys<A, heads>;
    const hn::CappedTag<A, kKeys> d;
    using Folded = hn::Vec<decltype(d)>;
    for (int64_t n = 0; n < k.count; n += kKeys) {
        Folded totals[kKeys / kSummed][heads][kSummed];
        for (int i = 0; i < kKeys; i += kSummed) {
            const C* rows[kSummed];
            for (int j = 0; j < kSummed; ++j) rows[j] = k[n + i + j];
            sum_products<heads, whole>(totals[i / kSummed], q, stride, rows, k.dims);
        }
        for (int h = 0; h < heads; ++h) {
            Folded lanes[kKeys];
            for (int i = 0; i < kKeys; ++i) lanes[i] = totals[i / kSummed][h][i % kSummed];
            transpose_square(d, lanes);
            hn::StoreU(sum_of_parts(d, lanes), d, logits + h * kCacheBlockRows + n);
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
        for (int i = 0; i < kVectors; ++i) {
            const A* from = o + h * stride + i / kParts * kCacheChunk<A>;
            first_sum[h][i] = load_run<0, A>(d, from, i % kParts);
            second_sum[h][i] = load_run<1, A>(d, from, i % kParts);
        }
    for (int64_t n = 0; n < v.count; ++n) {
        const C* row = whole ? v[n] + begin : whole_chunk<A>(v[n], begin, v.dims, copy);
        V weights[heads];
        for (int h = 0; h < heads; ++h) weights[h] = hn::Set(d, p[h * kCacheBlockRows + n]);
        for (int i = 0; i < kVectors; ++i) {
            const C* chunk = row + i / kParts * kCacheChunk<A>;
            const V first = load_run<0, A>(d, chunk, i % kParts);
            for (int h = 0; h < heads; ++h) first_sum[h][i] = hn::MulAdd(weights[h], first, first_sum[h][i]);
            const V second = load_run<1, A>(d, chunk, i % kParts);
            for (int h = 0; h < heads; ++h) second_sum[h][i] = hn::MulAdd(weights[h], second, second_sum[h][i]);
        }
    }
    for (int h = 0; h < heads; ++h)
        for (int i = 0; i < kVectors; ++i) {
            A* to = o + h * stride + i / kParts * kCacheChunk<A> + i % kParts * Sum::kNative;
            hn::StoreU(first_sum[h][i], d, to);
            hn::StoreU(second_sum[h][i], d, to + Sum::kLanes);
        }
}

/// Calls f.template operator()<heads>(first head) for runs of at most `most` heads, `most` <= 4, that are as long as
/// each other or one longer.
template <int most, class F>
HWY_INLINE void for_runs_of_heads(int64_t heads, const F& f) {
    for (int64_t h = 0, runs = ceil_div(heads, most); runs > 0; --runs) {
        const int64_t run = ceil_div(heads - h, runs);
        switch (run) {
            case 1: f.template operator()<1>(h); break;
            case 2: f.template operator()<std::min(2, most)>(h); break;
            case 3: f.template operator()<std::min(3, most)>(h); break;
            default: f.template operator()<most>(h); break;
        }
        h += run;
    }
}

/// logits [heads, kCacheBlockRows] of the visible keys of a block.
template <class A, class C>
HWY_INLINE void block_logits(A* logits, const A* q, int64_t stride, int64_t heads, const SeenRows<C>& k) {
    for_runs_of_heads<kManyRegisters<A> ? 4 : 3>(heads, [&]<int count>(int64_t h) HWY_ATTR {
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
