// InfLLM's block memory (kernels/ops.h, memory_store and memory_lookup). Tasks: for the store, a key-value head of a
// sequence; for the relevance, a block of a sequence; for the choice of blocks, a sequence.
#include <algorithm>
#include <limits>
#include <numeric>

#include "kernels/cpu/common.h"
#include "kernels/cpu/ops.h"

namespace ballast::cpu {
namespace {

using ops::kCacheBlockRows;

/// A row of a table: the blocks of a key-value head of a sequence. A single table is that of every sequence.
struct HeadBlocks {
    const int32_t* blocks;
    int64_t width, cache_blocks;

    HeadBlocks(const Tensor& table, int64_t b, int64_t g, int64_t in_cache)
        : blocks(table.ptr<int32_t>() + ((table.dim(0) == 1 ? 0 : b) * table.dim(1) + g) * table.dim(2)),
          width(table.dim(2)),
          cache_blocks(in_cache) {}
    int64_t block(int64_t w) const {
        require(0 <= w && w < width, "a position is beyond its table");
        require(0 <= blocks[w] && blocks[w] < cache_blocks, "a table names a block that the cache has not");
        return blocks[w];
    }
};

/// What a mass or a relevance counts as: one that is no number is the least.
template <class A>
A weight(A x) {
    return x == x ? x : -std::numeric_limits<A>::infinity();
}

/// The mean key of the rows of a block with the most mass.
template <class C>
void represent(Accumulator<C>* mean, const C* keys_RD, const Accumulator<C>* mass_R, int64_t count, int64_t dims) {
    using A = Accumulator<C>;
    int64_t order[kCacheBlockRows];
    std::iota(order, order + kCacheBlockRows, 0);
    std::stable_sort(order, order + kCacheBlockRows,
                     [&](int64_t a, int64_t b) { return weight(mass_R[a]) > weight(mass_R[b]); });
    std::sort(order, order + count);
    for (int64_t d = 0; d < dims; ++d) {
        A sum = 0;
        for (int64_t i = 0; i < count; ++i) sum += static_cast<A>(keys_RD[order[i] * dims + d]);
        mean[d] = sum / static_cast<A>(count);
    }
}

/// The places of the `chosen` highest of `values`, of equal ones the earlier, ascending.
template <class A>
std::vector<int64_t> highest(const A* values, int64_t count, int64_t chosen) {
    std::vector<int64_t> order(static_cast<size_t>(count));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return weight(values[a]) > weight(values[b]); });
    order.resize(static_cast<size_t>(std::min(count, chosen)));
    std::sort(order.begin(), order.end());
    return order;
}

}  // namespace

void memory_store(Context& context, const Tensor& representatives, const Tensor& mass, const PagedCache& cache,
                  const Tensor& table, const Tensor& position, const BlockMemory& memory) {
    const int64_t heads = table.dim(1), dims = cache.keys_PRD.dim(2), ring = memory.ring_blocks();
    with_compute_type(cache.keys_PRD.dtype, [&]<class C>(C) {
        using A = Accumulator<C>;
        context.pool().parallel_for(position.dim(0) * heads, [&](int64_t bg) {
            const int64_t p = position.ptr<int32_t>()[bg / heads];
            if (p < 0 || p % kCacheBlockRows != 0) return;
            const HeadBlocks head(table, bg / heads, bg % heads, cache.positions_PR.dim(0));
            const int64_t emptied = head.block(p / kCacheBlockRows % ring), first = emptied * kCacheBlockRows;
            A* of_rows = mass.ptr<A>() + first;
            if (const int64_t n = p / kCacheBlockRows - ring; n >= memory.initial_blocks()) {
                const int64_t block = head.block(ring + n);
                represent(representatives.ptr<A>() + block * dims,
                          cache.keys_PRD.ptr<C>() + block * kCacheBlockRows * dims, of_rows, memory.representatives,
                          dims);
            }
            std::fill_n(of_rows, kCacheBlockRows, A(0));
            std::fill_n(cache.positions_PR.ptr<int32_t>() + first, kCacheBlockRows, -1);
        });
    });
}

void memory_lookup(Context& context, const Tensor& read, const Tensor& relevance, const Tensor& q,
                   const Tensor& representatives, const Tensor& table, const Tensor& position,
                   const BlockMemory& memory) {
    const int64_t B = position.dim(0), G = table.dim(1), ring = memory.ring_blocks(), N = relevance.dim(1);
    const int64_t H = q.dim(1), D = q.dim(2), initial = memory.initial_blocks();
    with_compute_type(q.dtype, [&]<class T>(T) {
        using A = Accumulator<T>;
        const auto left_of = [&](int64_t b) { return position.ptr<int32_t>()[b] - memory.local; };
        context.pool().parallel_for(B * N, [&](int64_t task) {
            const int64_t b = task / N, n = task % N, left = left_of(b);
            if (left < 0 || n < initial || n >= left / kCacheBlockRows) return;
            A sum = 0;
            for (int64_t h = 0; h < H; ++h) {
                const HeadBlocks head(table, b, h / (H / G), representatives.dim(0));
                const A* key = representatives.ptr<A>() + head.block(ring + n) * D;
                const T* query = static_cast<const T*>(q.data) + b * q.stride[0] + h * q.stride[1];
                A dot = 0;
                for (int64_t d = 0; d < D; ++d) dot += static_cast<A>(query[d]) * key[d];
                sum += dot;
            }
            relevance.ptr<A>()[task] = sum;
        });
        context.pool().parallel_for(B, [&](int64_t b) {
            const int64_t left = left_of(b), whole = left < 0 ? 0 : left / kCacheBlockRows;
            std::vector<int64_t> places;
            for (int64_t w = 0; w < ring; ++w) places.push_back(w);
            for (int64_t n = 0; n < std::min(initial, whole); ++n) places.push_back(ring + n);
            for (const int64_t n :
                 highest(relevance.ptr<A>() + b * N + initial, std::max<int64_t>(0, whole - initial), memory.chosen))
                places.push_back(ring + initial + n);
            if (left >= 0) places.push_back(ring + whole);
            for (int64_t g = 0; g < G; ++g) {
                const HeadBlocks head(table, b, g, representatives.dim(0));
                int32_t* to = read.ptr<int32_t>() + (b * G + g) * read.dim(2);
                for (const int64_t place : places) *to++ = static_cast<int32_t>(head.block(place));
            }
        });
    });
}

}  // namespace ballast::cpu
