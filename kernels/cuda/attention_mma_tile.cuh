// The matrix products of attention on tensor cores (mma.sync m16n8k16, sm_80 and later), for 16-bit T with sums in f32.
//
// Thread map. A warp owns kRowTiles x 16 consecutive rows (queries, or keys in the pass for dK and dV) and loops over
// the other rows; rows never leave their warp. With g = lane / 4 and t = lane % 4, a lane holds rows g and g + 8 at
// columns 2t and 2t + 1 of every 16 x 8 tile of products. So four lanes share a row, and the result of one product,
// rounded to T, is an operand A of the next (weights never pass through shared memory).
// Shared memory. A tile has rows of kDims elements; elements beyond the head's dims and rows beyond the tensor are
// zero. The 16-byte chunks of a row are permuted by an XOR with the row's index. So the eight rows that an ldmatrix
// reads at one chunk are in eight different sixteen-byte banks, and so are the rows to which the results of a product
// are stored.
// Views that are not 16-byte aligned, and the last chunk of a head dim that is no multiple of 8, are moved element by
// element into the same tiles: correct, and slow.
#pragma once

#include "kernels/cuda/attention_rules.cuh"
#include "kernels/simt/ptx.cuh"
#include "kernels/simt/smem.cuh"

namespace ballast::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

/// The number of blocks per multiprocessor, as a hint for ptxas. With two, a thread of 128 may use all registers.
/// Without a hint (0) nvcc 13 spills some registers of the small dims to fit a third block; with a hint it spills some
/// of the large dims.
template <int kDims>
inline constexpr int kMmaBlocks = kDims <= 64 ? 2 : 0;

/// Tiles of rows of T [kDims] in shared memory; blocks of kThreads.
template <class T, int kDims, int kThreads>
struct MmaRows {
    static_assert(sizeof(T) == 2 && kDims % 32 == 0);
    static constexpr int kChunks = kDims / 8, kSteps = kDims / 16;
    static constexpr int kRowsAtOnce = kThreads / kChunks;

    __device__ static int lane() { return static_cast<int>(threadIdx.x % kWarpSize); }
    /// The first row and first column of the products that a lane holds.
    __device__ static int lane_row() { return lane() / 4; }
    __device__ static int lane_column() { return lane() % 4 * 2; }

    /// The offset of a chunk of a row. Rows of 64 bytes alternate between the two halves of the banks.
    __device__ static int place(int row, int chunk) {
        return row * kDims + ((chunk ^ (kDims >= 64 ? row & 7 : row >> 1 & 3)) << 3);
    }

    /// Copies rows from `first` on to shared memory: `count` of them, and zeros up to kRows. All threads must call it.
    /// The copies belong to the open group of asynchronous copies.
    template <int kRows>
    __device__ __forceinline__ static void load(T* to, const HeadRows<const T>& view, const T* first, int count,
                                                int dims) {
        static_assert(kRows % kRowsAtOnce == 0);
        const int chunk = static_cast<int>(threadIdx.x) % kChunks, d = chunk * 8;
        const int top = static_cast<int>(threadIdx.x) / kChunks;
        if (view.wide && (d + 8 <= dims || dims <= d)) {
            SIMT_UNROLL
            for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
                const int row = top + i * kRowsAtOnce;
                const bool there = row < count && d < dims;
                simt::ptx::cp_async_16(to + place(row, chunk), there ? first + row * view.row_stride + d : view.data,
                                       there);
            }
        } else {
            SIMT_NO_UNROLL
            for (int row = top; row < kRows; row += kRowsAtOnce) {
                Pack<T, 8> x = {};
                if (row < count) SIMT_UNROLL
                for (int e = 0; e < 8; ++e)
                    if (d + e < dims) x.v[e] = first[row * view.row_stride + d + e];
                *reinterpret_cast<Pack<T, 8>*>(to + place(row, chunk)) = x;
            }
        }
    }

    // Operands. A lane's offset is computed once for rows 0 … 15 of a tile; the beginning of the tile, a multiple of
    // eight rows, is added. Because of the permutation, a chunk at distance 2^n is one XOR away, so eight or sixteen
    // addresses need not stay in registers.

    /// The offset for rows as an operand A, and for sums over rows.
    __device__ static int place_a() { return place(lane() / 8 % 2 * 8 + lane() % 8, lane() / 16); }
    /// The offset for rows as operands B.
    __device__ static int place_b() { return place(lane() / 16 * 8 + lane() % 8, lane() / 8 % 2); }

    /// Rows `row` … + 15 at dims 16 step … + 15 as an operand A.
    __device__ __forceinline__ static void operand_a(uint32_t (&a)[4], const T* rows, int place_a, int row, int step) {
        simt::ptx::ldmatrix_x4<false>(a, rows + (place_a ^ step * 16) + row * kDims);
    }
    /// The same as two operands B of eight rows each: products with rows, over dims.
    __device__ __forceinline__ static void operand_b(uint32_t (&b)[4], const T* rows, int place_b, int row, int step) {
        simt::ptx::ldmatrix_x4<false>(b, rows + (place_b ^ step * 16) + row * kDims);
    }
    /// The same as two operands B of eight dims each: sums over rows.
    __device__ __forceinline__ static void operand_b_transposed(uint32_t (&b)[4], const T* rows, int place_a, int row,
                                                                int step) {
        simt::ptx::ldmatrix_x4<true>(b, rows + (place_a ^ step * 16) + row * kDims);
    }
};

/// d += a b for the two operands B that one ldmatrix gives.
template <class T>
__device__ __forceinline__ void add_products(float (&low)[4], float (&high)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[4]) {
    simt::ptx::mma_m16n8k16<T>(low, a, {b[0], b[1]}, low);
    simt::ptx::mma_m16n8k16<T>(high, a, {b[2], b[3]}, high);
}

/// A warp's own rows as operands A: kept in registers, or read from shared memory each time.
template <class T, class Rows, int kRowTiles, bool kKept>
struct MmaOwnRows {
    const T* rows;
    int place;  // offset of the warp's first row, as an operand A
    uint32_t kept[kKept ? kRowTiles : 1][kKept ? Rows::kSteps : 1][4];

    /// Call after the tile has arrived.
    __device__ __forceinline__ void read() {
        if constexpr (kKept) {
            SIMT_UNROLL
            for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
            for (int step = 0; step < Rows::kSteps; ++step) Rows::operand_a(kept[i][step], rows, place, i * 16, step);
        }
    }

    /// s[own row][column] = own row · other row `column`, counted from the row whose offset as operands B is `at`.
    template <int kTiles>
    __device__ __forceinline__ void multiply(float (&s)[kRowTiles][kTiles][4], const T* other, int at) const {
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int n = 0; n < kTiles; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e) s[i][n][e] = 0;
        const int own = kKept ? place : simt::ptx::opaque(place);
        SIMT_UNROLL
        for (int step = 0; step < Rows::kSteps; ++step) {
            uint32_t a[kRowTiles][4];
            SIMT_UNROLL
            for (int i = 0; i < kRowTiles; ++i) {
                if constexpr (kKept) {
                    SIMT_UNROLL
                    for (int e = 0; e < 4; ++e) a[i][e] = kept[i][step][e];
                } else {
                    Rows::operand_a(a[i], rows, own, i * 16, step);
                }
            }
            SIMT_UNROLL
            for (int n = 0; n < kTiles; n += 2) {
                uint32_t b[4];
                Rows::operand_b(b, other, at, n * 8, step);
                SIMT_UNROLL
                for (int i = 0; i < kRowTiles; ++i) add_products<T>(s[i][n], s[i][n + 1], a[i], b);
            }
        }
    }
};

/// The query and column of a lane's product s[i][n][e], counted as in TileRules. The warp's own rows begin at `own`,
/// the columns of its products at `other`: these are queries and columns, or columns and queries.
template <class Rows, bool kOwnKeys>
struct MmaPlaces {
    int own, other;

    __device__ MmaPlaces(int first_own, int first_other)
        : own(first_own + Rows::lane_row()), other(first_other + Rows::lane_column()) {}
    __device__ int other_of(int n, int e) const { return other + n * 8 + e % 2; }
    __device__ int query(int i, int n, int e) const { return kOwnKeys ? other_of(n, e) : own + i * 16 + e / 2 * 8; }
    __device__ int column(int i, int n, int e) const { return kOwnKeys ? own + i * 16 + e / 2 * 8 : other_of(n, e); }
};

/// Converts products to logits times log2(e).
struct MmaLogits {
    float scale, slope;
    bool apart;  // in a separate pass: there is a bias, or a scale that would change the sign of maxima

    template <class T, class Rules>
    __device__ MmaLogits(const AttentionOperands<T>& in, const Rules& rules)
        : scale(in.scale * kLog2E), slope(rules.alibi_slope * kLog2E), apart(rules.has_alibi || !(scale > 0)) {}

    /// The factor that s must still be multiplied by.
    template <int kRowTiles, int kTiles, class Rules, class Places>
    __device__ __forceinline__ float finish(float (&s)[kRowTiles][kTiles][4], const Rules& rules,
                                            const Places& at) const {
        if (!apart) return scale;
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
        for (int n = 0; n < kTiles; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e)
            s[i][n][e] = s[i][n][e] * scale + slope * rules.distance(at.query(i, n, e), at.column(i, n, e));
        return 1.0f;
    }
};

/// -inf where the query does not see the column, or the other row is not below `others`.
template <int kRowTiles, int kTiles, class Rules, class Places>
__device__ __forceinline__ void hide(float (&s)[kRowTiles][kTiles][4], const Rules& rules, const Places& at,
                                     int others) {
    SIMT_UNROLL
    for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
    for (int n = 0; n < kTiles; ++n) SIMT_UNROLL
    for (int e = 0; e < 4; ++e)
        if (at.other_of(n, e) >= others || !rules.sees(at.query(i, n, e), at.column(i, n, e)))
            s[i][n][e] = kMinusInfinity<float>;
}

/// Weights [own row][column], rounded to T, as operands A.
template <class T, int kRowTiles, int kTiles>
__device__ __forceinline__ void round_weights(uint32_t (&a)[kRowTiles][kTiles / 2][4],
                                              const float (&w)[kRowTiles][kTiles][4]) {
    SIMT_UNROLL
    for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
    for (int n = 0; n < kTiles; ++n) SIMT_UNROLL
    for (int e = 0; e < 2; ++e) a[i][n / 2][n % 2 * 2 + e] = simt::ptx::pack<T>(w[i][n][2 * e], w[i][n][2 * e + 1]);
}

/// sums[own row][dim] += sum over c of weights[own row][c] values[c][dim]. `at` is the offset of values[0] as operands
/// of sums over rows.
template <class T, class Rows, int kRowTiles, int kSteps, int kSumTiles>
__device__ __forceinline__ void add_weighted(float (&sums)[kRowTiles][kSumTiles][4],
                                             const uint32_t (&weights)[kRowTiles][kSteps][4], const T* values, int at) {
    SIMT_UNROLL
    for (int k = 0; k < kSteps; ++k) SIMT_UNROLL
    for (int n = 0; n < kSumTiles; n += 2) {
        uint32_t b[4];
        Rows::operand_b_transposed(b, values, at, k * 16, n / 2);
        SIMT_UNROLL
        for (int i = 0; i < kRowTiles; ++i) add_products<T>(sums[i][n], sums[i][n + 1], weights[i][k], b);
    }
}

/// to[own row] = rounded sums, for own rows < count, at dims from 8 chunk on. `stage` is a tile of which the warp owns
/// the rows from `row` on, at these dims; complete chunks are copied from it by 16-byte stores.
template <class T, class Rows, int kRowTiles, int kSumTiles>
__device__ __forceinline__ void store_sums(T* stage, int row, const HeadRows<T>& view, T* to, int count, int dims,
                                           const float (&sums)[kRowTiles][kSumTiles][4], int chunk) {
    SIMT_UNROLL
    for (int i = 0; i < kRowTiles; ++i) SIMT_UNROLL
    for (int n = 0; n < kSumTiles; ++n) SIMT_UNROLL
    for (int e = 0; e < 2; ++e) {
        const int r = row + i * 16 + e * 8 + Rows::lane_row();
        *reinterpret_cast<uint32_t*>(stage + Rows::place(r, chunk + n) + Rows::lane_column()) =
            simt::ptx::pack<T>(sums[i][n][2 * e], sums[i][n][2 * e + 1]);
    }
    __syncwarp();
    SIMT_NO_UNROLL
    for (int i = Rows::lane(); i < kRowTiles * 16 * kSumTiles; i += static_cast<int>(kWarpSize)) {
        const int r = row + i / kSumTiles, c = chunk + i % kSumTiles, d = c * 8;
        if (r >= count || d >= dims) continue;
        const Pack<T, 8> x = *reinterpret_cast<const Pack<T, 8>*>(stage + Rows::place(r, c));
        T* p = to + r * view.row_stride + d;
        if (view.wide && d + 8 <= dims)
            *reinterpret_cast<Pack<T, 8>*>(p) = x;
        else
            SIMT_UNROLL
        for (int e = 0; e < 8; ++e)
            if (d + e < dims) p[e] = x.v[e];
    }
}

/// Pipelines tiles 0 … count - 1 through two stages: load(tile, stage) starts the copies of a tile while compute(tile,
/// stage) works on the previous one. There is one barrier per tile: after it, the tile has arrived and all threads have
/// finished the previous one.
template <class Load, class Compute>
__device__ __forceinline__ void walk_tiles(int count, Load load, Compute compute) {
    if (count <= 0) return;
    __syncthreads();  // the previous contents of the stages are no longer read
    load(0, 0);
    simt::ptx::cp_async_commit();
    for (int tile = 0; tile < count; ++tile) {
        simt::ptx::cp_async_wait<0>();
        __syncthreads();
        if (tile + 1 < count) load(tile + 1, (tile + 1) % 2);
        simt::ptx::cp_async_commit();
        compute(tile, tile % 2);
    }
}

}  // namespace ballast::cuda
