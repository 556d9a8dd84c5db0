// The splits of attention over a paged cache on tensor cores (mma.sync m16n8k16), where several query heads share a
// key-value head and q and the cache have the same 16-bit type T. The formula and the partial results are those of
// cached_attention.cuh: s = log2(e) (scale q k^T + bias); m = max s; p = 2^(s - m); l = sum p; o = sum round(p) v.
// q and k enter as they are and s is f32. Only p is rounded, to T, for its product and not for l. So beside the f32
// kernel o is off by at most u sum_j P_j |v_j|, with u = 2^-8 (bf16) or 2^-11 (fp16; weights below 2^-14 of a warp's
// largest by 2^-25 of that): as much as rounding out once where one weight dominates, less where errors cancel.
//
// Launch map: one block of 128 threads per work item (b, g, split) and 64 heads of the group. 16 heads are the rows of
// a product: a run; rows without a head are zeros. A block has 1, 2 or 4 runs, and the 4, 2 or 1 warps of a run share
// its slots: in a tile of 64 slots, which is a block of the cache, they take 16 at a time in turn. Before, two slots a
// thread, the block notes of every slot how far back it is (CachedMark). Then rows of K and V go to shared memory by
// cp.async, 16 bytes each, with two tiles in flight (one at 256 dims); rows that no head of the block sees are zeros
// and are not read. Rows that are not aligned, or no multiple of 8, are moved by elements. At the end the warps of a
// run are merged in their order. Shared memory: 16, 32, 64, 64 KiB at 32, 64, 128, 256 dims and 3 KiB. Bound by memory:
// the visible rows' bytes, once for every 64 heads. Deterministic: every sum has one owner and one order, which depends
// on the slots alone.
#pragma once

#include "kernels/cuda/attention_softmax.cuh"
#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/cached_attention.cuh"

namespace ballast::cuda {

/// The heads of a run, and of a block.
inline constexpr int kRunHeads = 16, kBlockHeads = kRunHeads * kCachedWarps;
inline constexpr int kCachedTile = static_cast<int>(ops::kCacheBlockRows),
                     kCachedTiles = static_cast<int>(ops::kCacheSplitSlots) / kCachedTile;

/// A slot as the query sees it: how many tokens back (a head sees it if age <= its span), and ALiBi's distance.
struct alignas(8) CachedMark {
    int age;
    float distance;

    static constexpr int kHidden = INT32_MAX, kUnlimitedSpan = INT32_MAX - 1;
    static constexpr int kSink = -1, kWrong = -2;  // both seen by every head; there is no row where the block is wrong

    __device__ bool is_read(int widest) const { return age >= kSink && age <= widest; }
};

template <class T, int kDims>
struct CachedMma {
    static constexpr int kStages = kDims <= 128 ? 2 : 1, kTileSize = kCachedTile * kDims;
    static constexpr bool kKeepQueries = kDims <= 128;
    static constexpr int kBlocks = kDims <= 64 ? 4 : kDims <= 128 ? 3 : 2;  // per multiprocessor, a hint for ptxas
    using Rows = MmaRows<T, kDims, kCachedThreads>;
    using Softmax = MmaSoftmax<1>;
    using Products = float[1][2][4];
    using Sums = float[1][kDims / 8][4];

    /// Stages of a tile of K and one of V; in the end the warps' sums.
    static constexpr simt::SmemPlan memory() { return simt::SmemPlan().template take<T>(kStages * 2 * kTileSize, 128); }
    static_assert(kStages * 2 * kTileSize * sizeof(T) >= kBlockHeads * kDims * sizeof(float));
};

/// What a block of threads knows of its split.
struct CachedMarks {
    CachedMark slots[ops::kCacheSplitSlots];
    int64_t first_row[kCachedTiles];  // of a tile in the cache; 0 where there is none, of which nothing is read
    int widest_of_warp[kCachedWarps];

    template <class T>
    __device__ void note(const CachedOperands<T, T>& in, int b, int64_t bg, int64_t slot0, int64_t h0, int heads) {
        const int tid = static_cast<int>(threadIdx.x), query = in.query_position[b];
        SIMT_UNROLL
        for (int n = 0; n < static_cast<int>(ops::kCacheSplitSlots) / kCachedThreads; ++n) {
            const int i = tid + n * kCachedThreads;
            const CachedSlot slot(in.cache, in.table, bg, slot0 + i);
            const int j = slot.position, stands = j < in.sinks ? min(query, in.sink_query_position) : query;
            CachedMark mark{CachedMark::kHidden, 0};
            if (slot.wrong)
                mark = {CachedMark::kWrong, kNotANumber<float>};
            else if (j >= 0 && j <= query)
                mark = {j < in.sinks ? CachedMark::kSink : query - j, static_cast<float>(j - stands)};
            slots[i] = mark;
            if (i % kCachedTile == 0) first_row[i / kCachedTile] = slot.row < 0 ? 0 : slot.row;
        }
        const int widest = warp_max(tid < heads ? span_of(in, h0 + tid) : 0);
        if (tid % static_cast<int>(kWarpSize) == 0) widest_of_warp[tid / static_cast<int>(kWarpSize)] = widest;
    }
    template <class T>
    __device__ static int span_of(const CachedOperands<T, T>& in, int64_t head) {
        const int span = in.span_H != nullptr ? in.span_H[head] : -1;
        return span < 0 ? CachedMark::kUnlimitedSpan : min(span, CachedMark::kUnlimitedSpan);
    }
    __device__ int widest() const {
        int widest = 0;
        SIMT_UNROLL
        for (int warp = 0; warp < kCachedWarps; ++warp) widest = max(widest, widest_of_warp[warp]);
        return widest;
    }
};

/// Starts the copies of a tile's rows that a head of the block sees; the others become zeros.
template <class T, int kDims>
__device__ __forceinline__ void load_tile(T* k_tile, T* v_tile, const CachedOperands<T, T>& in, const CachedMark* marks,
                                          int64_t first_row, int widest) {
    using Rows = typename CachedMma<T, kDims>::Rows;
    const int chunk = static_cast<int>(threadIdx.x) % Rows::kChunks,
              top = static_cast<int>(threadIdx.x) / Rows::kChunks;
    const int d = chunk * 8;
    const int64_t at = (first_row + top) * in.dims + d;
    const T *k = in.cache.keys + at, *v = in.cache.values + at;
    if (in.packed) {
        SIMT_UNROLL
        for (int i = 0; i < kCachedTile / Rows::kRowsAtOnce; ++i) {
            const int row = top + i * Rows::kRowsAtOnce, to = Rows::place(row, chunk);
            const bool there = d < in.dims && marks[row].is_read(widest);
            simt::ptx::cp_async_16(k_tile + to, k, there);
            simt::ptx::cp_async_16(v_tile + to, v, there);
            k += Rows::kRowsAtOnce * in.dims;
            v += Rows::kRowsAtOnce * in.dims;
        }
    } else {
        SIMT_NO_UNROLL
        for (int row = top; row < kCachedTile; row += Rows::kRowsAtOnce) {
            Pack<T, 8> k_pack = {}, v_pack = {};
            if (marks[row].is_read(widest)) SIMT_UNROLL
            for (int e = 0; e < 8; ++e)
                if (d + e < in.dims) k_pack.v[e] = k[e], v_pack.v[e] = v[e];
            *reinterpret_cast<Pack<T, 8>*>(k_tile + Rows::place(row, chunk)) = k_pack;
            *reinterpret_cast<Pack<T, 8>*>(v_tile + Rows::place(row, chunk)) = v_pack;
            k += Rows::kRowsAtOnce * in.dims;
            v += Rows::kRowsAtOnce * in.dims;
        }
    }
}

/// A run's queries as operands A: kept in registers, or read again each time.
template <class T, class Rows, bool kKept>
struct RunQueries {
    const T* rows[2];  // the lane's, from its columns on
    int dims[2];       // that are left there; 0: no such head, or no queries
    bool in_pairs;
    uint32_t kept[kKept ? Rows::kSteps : 1][4];

    __device__ RunQueries(const MatrixRows<const T>& q, int b, int64_t h0, int heads, int width)
        : in_pairs(q.packed && width % 2 == 0) {
        SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
            const int row = Rows::lane_row() + e * 8;
            const bool there = row < heads && q.data != nullptr;
            rows[e] = there ? q.at(b, h0 + row) + Rows::lane_column() : nullptr;
            dims[e] = there ? width - Rows::lane_column() : 0;
        }
        if constexpr (kKept) {
            SIMT_UNROLL
            for (int step = 0; step < Rows::kSteps; ++step) read(kept[step], step);
        }
    }
    __device__ __forceinline__ void read(uint32_t (&a)[4], int step) const {
        SIMT_UNROLL
        for (int e = 0; e < 4; ++e) {
            const int d = step * 16 + e / 2 * 8, left = dims[e % 2] - d;
            const T* row = rows[e % 2];
            if (in_pairs) {
                a[e] = left > 0 ? *reinterpret_cast<const uint32_t*>(row + d) : 0;
            } else {
                const T none = narrow<T>(0), low = left > 0 ? row[d] : none, high = left > 1 ? row[d + 1] : none;
                a[e] = simt::ptx::pack<T>(widen(low), widen(high));
            }
        }
    }
    /// s = q k^T for 16 rows of a tile.
    __device__ __forceinline__ void multiply(float (&s)[1][2][4], const T* keys, int place_b) const {
        SIMT_UNROLL
        for (int n = 0; n < 2; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e) s[0][n][e] = 0;
        SIMT_UNROLL
        for (int step = 0; step < Rows::kSteps; ++step) {
            uint32_t a[4], b[4];
            SIMT_UNROLL
            for (int e = 0; e < 4; ++e)
                if constexpr (kKept) a[e] = kept[step][e];
            if constexpr (!kKept) read(a, step);
            Rows::operand_b(b, keys, place_b, 0, step);
            add_products<T>(s[0][0], s[0][1], a, b);
        }
    }
};

/// A run of heads as one warp sees it, and its running sums over the warp's slots.
template <class T, int kDims>
struct CachedRunOfHeads {
    using Shape = CachedMma<T, kDims>;
    using Rows = typename Shape::Rows;

    const CachedOperands<T, T>& in;
    const int64_t place;  // of the logits of the lane's first row
    const int heads;
    RunQueries<T, Rows, Shape::kKeepQueries> queries;
    RunQueries<T, Rows, false> sink_queries;
    int span[2];
    float slope[2];
    typename Shape::Sums o = {};
    typename Shape::Softmax softmax;

    __device__ CachedRunOfHeads(const CachedOperands<T, T>& operands, int b, int64_t h0, int count, int64_t first_place)
        : in(operands),
          place(first_place + Rows::lane_row()),
          heads(count),
          queries(operands.q, b, h0, count, operands.dims),
          sink_queries(operands.sink_query, b, h0, count, operands.dims) {
        SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
            const int row = Rows::lane_row() + e * 8;
            span[e] = row < heads ? CachedMarks::span_of(in, h0 + row) : 0;
            slope[e] = row < heads && in.alibi_slope_H != nullptr ? in.alibi_slope_H[h0 + row] * kLog2E : 0.0f;
        }
    }

    /// Takes in 16 slots, the first of which is number `first` of the split.
    __device__ __forceinline__ void add(const T* keys, const T* values, const CachedMark* marks, int first) {
        typename Shape::Products s;
        queries.multiply(s, keys, Rows::place_b());
        Pack<CachedMark, 2> mark[2];  // of the lane's columns
        SIMT_UNROLL
        for (int n = 0; n < 2; ++n)
            mark[n] = *reinterpret_cast<const Pack<CachedMark, 2>*>(marks + n * 8 + Rows::lane_column());
        if (in.sink_query.data != nullptr) multiply_sinks(s, keys, mark);
        SIMT_UNROLL
        for (int n = 0; n < 2; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e) {
            const CachedMark& slot = mark[n].v[e % 2];
            s[0][n][e] = s[0][n][e] * (in.scale * kLog2E) + slope[e / 2] * slot.distance;
            if (slot.age > span[e / 2]) s[0][n][e] = kMinusInfinity<float>;
        }
        if (in.partials.logits != nullptr) keep_logits(s, first);
        typename Shape::Softmax::Decay decay;
        if (softmax.weigh(s, 1.0f, decay)) Shape::Softmax::apply(decay, o);
        uint32_t p[1][1][4];
        round_weights<T>(p, s);
        add_weighted<T, Rows>(o, p, values, Rows::place_a());
    }

    /// Sinks have a query of their own.
    __device__ __forceinline__ void multiply_sinks(typename Shape::Products& s, const T* keys,
                                                   const Pack<CachedMark, 2> (&mark)[2]) const {
        bool sinks = false;
        SIMT_UNROLL
        for (int n = 0; n < 2; ++n)
            sinks |= mark[n].v[0].age == CachedMark::kSink || mark[n].v[1].age == CachedMark::kSink;
        if (!__any_sync(kAllLanes, sinks)) return;
        typename Shape::Products of_sinks;
        sink_queries.multiply(of_sinks, keys, Rows::place_b());
        SIMT_UNROLL
        for (int n = 0; n < 2; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e)
            if (mark[n].v[e % 2].age == CachedMark::kSink) s[0][n][e] = of_sinks[0][n][e];
    }

    __device__ __forceinline__ void keep_logits(const typename Shape::Products& s, int first) const {
        SIMT_UNROLL
        for (int n = 0; n < 2; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e)
            if (Rows::lane_row() + e / 2 * 8 < heads)
                in.partials
                    .logits[(place + e / 2 * 8) * ops::kCacheSplitSlots + first + n * 8 + Rows::lane_column() + e % 2] =
                    s[0][n][e];
    }

    /// Where the sum of a row's dim d is on the board. Rows that are stored together are in different banks.
    __device__ static int on_board(int row, int d) { return row * kDims + (d ^ (row & 3) << 3); }

    /// Leaves the sums of the warp's 16 rows on its part of the board, and its maxima and totals.
    __device__ __forceinline__ void leave(float* board, float (*ends)[2]) const {
        SIMT_UNROLL
        for (int e = 0; e < 2; ++e) {
            const int row = Rows::lane_row() + e * 8;
            float total = softmax.sum[0][e];
            SIMT_UNROLL
            for (int lanes = 1; lanes < 4; lanes *= 2) total += __shfl_xor_sync(kAllLanes, total, lanes);
            if (Rows::lane_column() == 0) ends[row][0] = softmax.maximum[0][e], ends[row][1] = total;
            SIMT_UNROLL
            for (int n = 0; n < kDims / 8; ++n)
                *reinterpret_cast<Pack<float, 2>*>(board + on_board(row, n * 8 + Rows::lane_column())) = {
                    o[0][n][2 * e], o[0][n][2 * e + 1]};
        }
    }
};

/// Merges the warps of four dims from d on of head h, in their order, and stores the partial result of the head at
/// `to`.
template <class Run>
__device__ __forceinline__ void merge_parts(const CachedAttentionPartials<float>& partials, int64_t to,
                                            const float* board, int board_size, const float (*ends)[kRunHeads][2],
                                            int runs, int h, int d, int dims) {
    const int run = h / kRunHeads, row = h % kRunHeads;
    float maximum = kMinusInfinity<float>, sum = 0, value[4] = {};
    for (int warp = run; warp < kCachedWarps; warp += runs) maximum = fmaxf(maximum, ends[warp][row][0]);
    const float base = maximum == kMinusInfinity<float> ? 0.0f : maximum;
    for (int warp = run; warp < kCachedWarps; warp += runs) {
        const float weight = exp2_of(ends[warp][row][0] - base);
        sum += ends[warp][row][1] * weight;
        const auto values = *reinterpret_cast<const Pack<float, 4>*>(board + warp * board_size + Run::on_board(row, d));
        SIMT_UNROLL
        for (int e = 0; e < 4; ++e) value[e] += values.v[e] * weight;
    }
    SIMT_UNROLL
    for (int e = 0; e < 4; ++e)
        if (d + e < dims) partials.values[to * dims + d + e] = value[e];
    if (d == 0) partials.maximum[to] = maximum, partials.sum[to] = sum;
}

template <class T, int kDims>
__global__ void __launch_bounds__(kCachedThreads, CachedMma<T, kDims>::kBlocks)
    cached_attention_split_mma_kernel(const __grid_constant__ CachedOperands<T, T> in) {
    using Shape = CachedMma<T, kDims>;
    using Run = CachedRunOfHeads<T, kDims>;
    constexpr int kStages = Shape::kStages, kTileSize = Shape::kTileSize;
    SIMT_SHARED(CachedMarks, marks, [1]);
    SIMT_SHARED(float, ends, [kCachedWarps][kRunHeads][2]);  // the warps' maxima and totals
    simt::Smem smem;
    T* tiles = smem.take<T>(kStages * 2 * kTileSize, 128);
    int b, g, split;
    int64_t place;
    if (!in.item(blockIdx.x, b, g, split, place)) return;
    const int first_head = static_cast<int>(blockIdx.y) * kBlockHeads;
    const int heads = min(kBlockHeads, in.heads_per_group - first_head);
    const int runs = heads > 2 * kRunHeads ? 4 : heads > kRunHeads ? 2 : 1, parts = kCachedWarps / runs;
    const int warp = static_cast<int>(threadIdx.x / kWarpSize), part = warp / runs, run_head = warp % runs * kRunHeads;
    const int64_t bg = b * in.table.groups + g, h0 = g * in.heads_per_group + first_head;
    const int64_t slot0 = int64_t{split} * ops::kCacheSplitSlots, used = in.table.lengths[bg] - slot0;
    const int count = static_cast<int>(min(int64_t{kCachedTiles}, (used + kCachedTile - 1) / kCachedTile));

    marks->note(in, b, bg, slot0, h0, heads);
    __syncthreads();
    const int widest = marks->widest();
    const auto load = [&](int tile) {
        T* to = tiles + tile % kStages * 2 * kTileSize;
        if (tile < count)
            load_tile<T, kDims>(to, to + kTileSize, in, marks->slots + tile * kCachedTile, marks->first_row[tile],
                                widest);
        simt::ptx::cp_async_commit();
    };
    SIMT_UNROLL
    for (int tile = 0; tile < kStages; ++tile) load(tile);

    Run run(in, b, h0 + run_head, min(kRunHeads, heads - run_head), place + first_head + run_head);
    SIMT_NO_UNROLL
    for (int tile = 0; tile < count; ++tile) {
        simt::ptx::cp_async_wait<kStages - 1>();
        __syncthreads();
        const T* k = tiles + tile % kStages * 2 * kTileSize;
        SIMT_NO_UNROLL
        for (int row = part * 16; run.heads > 0 && row < kCachedTile; row += parts * 16) {
            const int first = tile * kCachedTile + row;
            run.add(k + row * kDims, k + kTileSize + row * kDims, marks->slots + first, first);
        }
        __syncthreads();
        load(tile + kStages);
    }

    constexpr int kBoard = kRunHeads * kDims;
    float* board = reinterpret_cast<float*>(tiles);
    run.leave(board + warp * kBoard, ends[warp]);
    __syncthreads();
    constexpr int kPacks = kDims / 4;
    for (int n = static_cast<int>(threadIdx.x); n < heads * kPacks; n += kCachedThreads)
        if (const int h = n / kPacks, d = n % kPacks * 4; d < in.dims)
            merge_parts<Run>(in.partials, place + first_head + h, board, kBoard, ends, runs, h, d, in.dims);
}

}  // namespace ballast::cuda
