// The matrix products of attention on the plain multipliers: a block of 128 threads keeps a tile of its own rows
// (queries, or keys in the pass for dK and dV) and loops over tiles of the other rows.
//
// Thread map. Eight neighbouring lanes share kRows own rows. So a warp owns 4 kRows consecutive rows, and rows never
// leave their warp: lanes that exchange data of a row need only __syncwarp().
//   products [own][other]   lane l of the eight has columns l, l + 8, …           kRows x kColumns registers
//   sums [own][dims]        lane l has dims 4 l … 4 l + 3 of every chunk of 32    kRows x kDims / 8 registers
// Shared memory. Tiles of rows are kept in the accumulation type with rows of attention_stride(dims) elements: whole
// chunks of 32, zero beyond dims, and 4 more so that neighbouring rows begin four banks apart; all reads are of four
// elements and free of bank conflicts in f32. Weights are [own][kWeightStride], each row written and read by its eight
// lanes.
#pragma once

#include "kernels/cuda/common.cuh"
#include "kernels/simt/smem.cuh"

namespace ballast::cuda {

inline constexpr int kAttentionThreads = 128, kRowLanes = 8, kChunk = 4 * kRowLanes;
inline constexpr int kRowsAtOnce = kAttentionThreads / kRowLanes;
inline constexpr size_t kSmallestMemory = 99 << 10;  // shared memory that a block may have on sm_86, 89 and 120

__host__ __device__ constexpr int attention_stride(int dims) { return (dims + kChunk - 1) / kChunk * kChunk + 4; }

/// Shared memory for `count` elements, aligned for reads of four.
template <class A>
constexpr simt::SmemPlan plus(const simt::SmemPlan& plan, int count) {
    return plan.take<A>(static_cast<size_t>(count), 4 * sizeof(A));
}
template <class A>
__device__ __forceinline__ A* take(simt::Smem& smem, int count) {
    return smem.take<A>(static_cast<size_t>(count), 4 * sizeof(A));
}

/// Copies rows from[0 … count) times `factor` to shared memory, and zeros up to `rows`. All threads; no barrier.
template <class A, class T>
__device__ void load_rows(A* to, int rows, const T* from, int64_t row_stride, int64_t count, int dims, bool packed,
                          A factor) {
    const int stride = attention_stride(dims);
    for (int r = static_cast<int>(threadIdx.x) / kRowLanes; r < rows; r += kRowsAtOnce)
        for (int d = static_cast<int>(threadIdx.x) % kRowLanes * 4; d < stride - 4; d += kChunk) {
            A x[4] = {};
            if (r < count) {
                const T* p = from + r * row_stride + d;
                if (packed && d + 4 <= dims)
                    load(x, p);
                else
                    for (int e = 0; e < 4; ++e)
                        if (d + e < dims) x[e] = widen(p[e]);
            }
            SIMT_UNROLL
            for (int e = 0; e < 4; ++e) x[e] *= factor;
            store(to + r * stride + d, x);
        }
}

/// Tiles for head dims up to kDims. Larger dims have smaller tiles, because registers and shared memory limit them.
template <class A, int kDims>
struct AttentionTile {
    static constexpr int kRows = kDims <= 64 ? 4 : 2, kColumns = kDims <= 128 ? 4 : 1, kChunks = kDims / kChunk;
    static constexpr int kWarpRows = kRows * static_cast<int>(kWarpSize) / kRowLanes;
    static constexpr int kOwn = kRows * kRowsAtOnce, kOther = kColumns * kRowLanes;
    static constexpr int kWeightStride = kOther == 8 ? 8 : kOther + 8;  // four rows begin in four quarters of the banks
    using Products = A[kRows][kColumns];
    using Sums = A[kRows][kChunks][4];

    __device__ static int row_lane() { return static_cast<int>(threadIdx.x) % kRowLanes; }
    /// The warp's first own row.
    __device__ static int warp_row() { return static_cast<int>(threadIdx.x / kWarpSize) * kWarpRows; }
    /// The thread's i-th own row and j-th column.
    __device__ static int row(int i) {
        return warp_row() + static_cast<int>(threadIdx.x % kWarpSize) / kRowLanes + i * (kWarpRows / kRows);
    }
    __device__ static int column(int j) { return row_lane() + j * kRowLanes; }

    /// s[i][j] = own row i · other row j.
    __device__ static void multiply(Products& s, const A* own, const A* other, int dims) {
        const int stride = attention_stride(dims);
        const A *from = own + row(0) * stride, *to = other + column(0) * stride;
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) SIMT_UNROLL
        for (int j = 0; j < kColumns; ++j) s[i][j] = 0;
        for (int d = 0; d < dims; d += 4) {
            A x[kRows][4], y[kColumns][4];
            SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) load(x[i], from + i * (kWarpRows / kRows) * stride + d);
            SIMT_UNROLL
            for (int j = 0; j < kColumns; ++j) load(y[j], to + j * kRowLanes * stride + d);
            SIMT_UNROLL
            for (int e = 0; e < 4; ++e) SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) SIMT_UNROLL
            for (int j = 0; j < kColumns; ++j) s[i][j] += x[i][e] * y[j][e];
        }
    }

    /// Stores the thread's share of `weights`, for add(); a __syncwarp() must come between.
    __device__ static void share(A* weights, const Products& s) {
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) SIMT_UNROLL
        for (int j = 0; j < kColumns; ++j) weights[row(i) * kWeightStride + column(j)] = s[i][j];
    }

    /// sums[own row] += sum over columns c < count of weights[own row][c] values[c].
    __device__ static void add(Sums& sums, const A* weights, const A* values, int64_t count, int dims) {
        const int stride = attention_stride(dims);
        const A *from = weights + row(0) * kWeightStride, *to = values + row_lane() * 4;
        for (int c = 0; c < count; c += 4) {
            A w[kRows][4];
            SIMT_UNROLL
            for (int i = 0; i < kRows; ++i) load(w[i], from + i * (kWarpRows / kRows) * kWeightStride + c);
            SIMT_UNROLL
            for (int x = 0; x < 4; ++x) SIMT_UNROLL
            for (int n = 0; n < kChunks; ++n) {
                if (n * kChunk >= dims) continue;
                A v[4];
                load(v, to + (c + x) * stride + n * kChunk);
                SIMT_UNROLL
                for (int i = 0; i < kRows; ++i) SIMT_UNROLL
                for (int e = 0; e < 4; ++e) sums[i][n][e] += w[i][x] * v[e];
            }
        }
    }

    /// Multiplies the sums of the thread's i-th own row.
    __device__ static void scale(Sums& sums, int i, A factor) {
        SIMT_UNROLL
        for (int n = 0; n < kChunks; ++n) SIMT_UNROLL
        for (int e = 0; e < 4; ++e) sums[i][n][e] *= factor;
    }

    /// Combines x over the eight lanes of each row, in one fixed order; every lane gets the result. `board` is
    /// [kOwn][kRowLanes]. A __syncwarp() must come before the next use of `board`.
    template <class F>
    __device__ static void combine(A* board, A (&x)[kRows], F f) {
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) board[row(i) * kRowLanes + row_lane()] = x[i];
        __syncwarp();
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) {
            A y[4], z[4];
            load(y, board + row(i) * kRowLanes);
            load(z, board + row(i) * kRowLanes + 4);
            x[i] = f(f(f(y[0], y[1]), f(y[2], y[3])), f(f(z[0], z[1]), f(z[2], z[3])));
        }
    }

    /// to[own row] = sums, rounded, for own rows < count.
    template <class T>
    __device__ static void store_rows(T* to, int64_t row_stride, int64_t count, int dims, bool packed,
                                      const Sums& sums) {
        SIMT_UNROLL
        for (int i = 0; i < kRows; ++i) {
            if (row(i) >= count) continue;
            SIMT_UNROLL
            for (int n = 0; n < kChunks; ++n) {
                const int d = n * kChunk + row_lane() * 4;
                T* p = to + row(i) * row_stride + d;
                if (packed && d + 4 <= dims)
                    store(p, sums[i][n]);
                else
                    SIMT_UNROLL
                for (int e = 0; e < 4; ++e)
                    if (d + e < dims) p[e] = narrow<T>(sums[i][n][e]);
            }
        }
    }
};

}  // namespace ballast::cuda
