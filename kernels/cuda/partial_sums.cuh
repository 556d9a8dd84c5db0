// Sums of partial sums, as trees whose shape depends only on the number of terms: the same bits on every run, and many
// loads in flight, where a loop with a single sum would wait for each load.
#pragma once

#include <algorithm>
#include <span>

#include "kernels/cuda/common.cuh"

namespace ballast::cuda {

/// p[0] + p[stride] + … + p[(count - 1) stride], by one thread: term i is added to sum i % kInFlight, then the sums are
/// added by halves. 0 for count <= 0.
template <int kInFlight, class A>
__device__ __forceinline__ A strided_sum(const A* p, int64_t count, int64_t stride) {
    static_assert((kInFlight & (kInFlight - 1)) == 0, "sums are added in halves");
    A sums[kInFlight] = {};
    int64_t i = 0;
    for (; i + kInFlight <= count; i += kInFlight, p += kInFlight * stride) {
        SIMT_UNROLL
        for (int k = 0; k < kInFlight; ++k) sums[k] += p[k * stride];
    }
    SIMT_UNROLL
    for (int k = 0; k < kInFlight; ++k)
        if (i + k < count) sums[k] += p[k * stride];
    SIMT_UNROLL
    for (int half = kInFlight / 2; half > 0; half /= 2) {
        SIMT_UNROLL
        for (int k = 0; k < half; ++k) sums[k] += sums[k + half];
    }
    return sums[0];
}

inline constexpr int kMaxSums = 4, kPartialWarps = 8, kPartialThreads = kPartialWarps * kWarpSize;

/// Up to kMaxSums targets, each for a row of sums; nullptr: not wanted.
template <class A>
struct SumTargets {
    A* sums[kMaxSums];
};

/// targets.sums[y][c] += partials[0][y][c] + partials[1][y][c] + … for c < width, y = blockIdx.y; partials lie `stride`
/// elements apart. A block adds 32 columns: warp w takes the partials w, w + 8, …
template <class A>
__global__ void add_partials_kernel(const __grid_constant__ SumTargets<A> targets, const A* partials, int64_t count,
                                    int64_t stride, int64_t width) {
    SIMT_SHARED(A, warp_sums, [kPartialWarps][kWarpSize]);
    A* sums = targets.sums[blockIdx.y];
    if (sums == nullptr) return;
    const unsigned lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
    const int64_t c = int64_t{blockIdx.x} * kWarpSize + lane;
    if (c < width)
        warp_sums[warp][lane] =
            strided_sum<8>(partials + warp * stride + blockIdx.y * width + c,
                           (count - warp + kPartialWarps - 1) / kPartialWarps, kPartialWarps * stride);
    __syncthreads();
    if (warp == 0 && c < width) sums[c] += strided_sum<kPartialWarps>(&warp_sums[0][lane], kPartialWarps, kWarpSize);
}

/// One launch for all `targets`: the partial sums [count, targets, width] of each target are added to it; rows of
/// partial sums are `stride` elements apart.
template <class A>
void add_partials(Context& context, std::span<A* const> targets, const A* partials, int64_t count, int64_t stride,
                  int64_t width) {
    if (width == 0 || count == 0) return;
    require(targets.size() <= kMaxSums, "more sums than one launch takes");
    SumTargets<A> to{};
    std::ranges::copy(targets, to.sums);
    dim3 grid = grid_of(width, kWarpSize);
    grid.y = static_cast<unsigned>(targets.size());
    launch(add_partials_kernel<A>, grid, kPartialThreads, {}, context.stream(), to, partials, count, stride, width);
}

}  // namespace ballast::cuda
