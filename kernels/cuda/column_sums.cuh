// Column sums in two steps with one order of additions: every block of rows writes its own partial sums [blocks,
// width], then add_partials (partial_sums.cuh) adds these as a tree.
#pragma once

#include <algorithm>

#include "kernels/cuda/partial_sums.cuh"

namespace ballast::cuda {

/// Rows [begin(i), begin(i) + per_block) belong to partial sum i. The division depends on the shape alone: 128 partial
/// sums keep an H100's 132 multiprocessors busy and are cheap to add. `at_least`: the smallest number of rows for which
/// a block pays.
struct RowBlocks {
    int64_t rows, per_block, blocks;

    explicit RowBlocks(int64_t count, int64_t at_least = 4)
        : rows(count), per_block(std::max(at_least, ceil_div(count, 128))), blocks(ceil_div(count, per_block)) {}
};

inline constexpr int kColumnWarps = 8, kColumnRowsInFlight = 4, kColumnRows = kColumnWarps * kColumnRowsInFlight;

/// partials [gridDim.y, width]: sums of each block's rows of x [rows, width]. A lane owns N columns; the block's rows
/// are assigned to its warps in turn.
template <class T, int N>
__global__ void __launch_bounds__(kColumnWarps* kWarpSize)
    column_partials_kernel(Accumulator<T>* partials, const T* x, int64_t rows, int64_t rows_per_block, int64_t width) {
    using A = Accumulator<T>;
    constexpr int kWidth = static_cast<int>(kWarpSize) * N;
    SIMT_SHARED(A, warp_sums, [kColumnWarps][kWidth]);
    const int64_t first = int64_t{blockIdx.x} * kWidth, c = first + threadIdx.x % kWarpSize * N;
    const int64_t begin = blockIdx.y * rows_per_block, end = min(rows, begin + rows_per_block);
    A sum[N] = {}, row[kColumnRowsInFlight][N];
    if (c < width)
        for (int64_t r = begin + threadIdx.x / kWarpSize; r < end; r += kColumnRowsInFlight * kColumnWarps) {
            SIMT_UNROLL
            for (int k = 0; k < kColumnRowsInFlight; ++k)
                if (r + k * kColumnWarps < end) load(row[k], x + (r + k * kColumnWarps) * width + c);
            SIMT_UNROLL
            for (int k = 0; k < kColumnRowsInFlight; ++k) {
                if (r + k * kColumnWarps >= end) break;
                SIMT_UNROLL
                for (int i = 0; i < N; ++i) sum[i] += row[k][i];
            }
        }
    SIMT_UNROLL
    for (int i = 0; i < N; ++i) warp_sums[threadIdx.x / kWarpSize][threadIdx.x % kWarpSize * N + i] = sum[i];
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < kWidth && first + i < width; i += kColumnWarps * kWarpSize)
        partials[blockIdx.y * width + first + i] = strided_sum<kColumnWarps>(&warp_sums[0][i], kColumnWarps, kWidth);
}

inline constexpr int kColumnThreads = 64;

/// The grid of a kernel whose threads own N columns each and whose blocks take RowBlocks.
inline dim3 column_grid(const RowBlocks& blocks, int64_t width, int per_thread) {
    dim3 grid = grid_of(width, int64_t{kColumnThreads} * per_thread);
    grid.y = static_cast<unsigned>(blocks.blocks);
    return grid;
}

/// Scratch memory of add_column_sums().
template <class A>
size_t column_sums_bytes(int64_t rows, int64_t width) {
    return static_cast<size_t>(RowBlocks(rows, kColumnRows).blocks * width) * sizeof(A);
}

/// sums[c] += sum over rows of x[n][c]; `memory` holds column_sums_bytes().
template <class T>
void add_column_sums(Context& context, Accumulator<T>* sums, const T* x, int64_t rows, int64_t width, void* memory) {
    if (rows == 0 || width == 0) return;
    const RowBlocks blocks(rows, kColumnRows);
    auto* partials = static_cast<Accumulator<T>*>(memory);
    const auto run = [&](auto n) {
        constexpr int N = n;
        dim3 grid = grid_of(width, int64_t{kWarpSize} * N);
        grid.y = static_cast<unsigned>(blocks.blocks);
        launch(column_partials_kernel<T, N>, grid, kColumnWarps * kWarpSize, {}, context.stream(), partials, x, rows,
               blocks.per_block, width);
    };
    if (can_pack<T>(x, width))
        run(std::integral_constant<int, kPackSize<T>>{});
    else
        run(std::integral_constant<int, 1>{});
    add_partials<Accumulator<T>>(context, {&sums, 1}, partials, blocks.blocks, width, width);
}

}  // namespace ballast::cuda
