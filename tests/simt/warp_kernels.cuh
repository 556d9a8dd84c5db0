// Kernels that do one thing of simt.cuh and ptx.cuh each, for tests against plain loops and on a GPU (conformance/).
#pragma once

#include "kernels/simt/ptx.cuh"
#include "kernels/simt/smem.cuh"

namespace ballast::test {

using namespace ballast::simt;

struct WarpResults {
    unsigned index, up, down, exclusive_or, narrow, ballot, any, all, match, add, minimum, maximum, partial;
};
static __global__ void warp_functions(WarpResults* out) {
    const unsigned i = threadIdx.x, lane = i % 32, value = 3 * i + 1;
    WarpResults r{};
    r.index = __shfl_sync(~0u, value, 5);
    r.up = __shfl_up_sync(~0u, value, 3);
    r.down = __shfl_down_sync(~0u, value, 30);
    r.exclusive_or = __shfl_xor_sync(~0u, value, 9);
    r.narrow = __shfl_down_sync(~0u, value, 6, 8);
    r.ballot = __ballot_sync(~0u, lane % 3 == 0);
    r.any = static_cast<unsigned>(__any_sync(~0u, lane == 40));
    r.all = static_cast<unsigned>(__all_sync(~0u, lane < 32));
    r.match = __match_any_sync(~0u, lane % 5);
    r.add = __reduce_add_sync(~0u, value);
    r.minimum = __reduce_min_sync(~0u, value);
    r.maximum = __reduce_max_sync(~0u, value);
    const unsigned mask = lane < 10 ? 0x3ffu : ~0x3ffu;
    if (lane < 10)
        r.partial = __reduce_add_sync(mask, 1u);
    else
        r.partial = __reduce_add_sync(mask, 2u);
    out[i] = r;
}

static __global__ void barrier_votes(int* out, int threads_that_stay) {
    const int i = static_cast<int>(threadIdx.x);
    if (i >= threads_that_stay) return;  // the barriers no longer wait for these
    const int all = __syncthreads_and(i < 1000), any = __syncthreads_or(i == 7), count = __syncthreads_count(i % 2);
    out[i] = all * 1000000 + any * 10000 + count;
}

static __global__ void matrix_product_tile(float* d, const float* a, const float* b, const float* c, bool half) {
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4 * 2;
    const auto pair = [&](const float* x, int first, int second) {
        return half ? ptx::pack<__half>(x[first], x[second]) : ptx::pack<__nv_bfloat16>(x[first], x[second]);
    };
    const auto a_pair = [&](int row, int k) { return pair(a, row * 16 + k, row * 16 + k + 1); };
    const auto b_pair = [&](int k) { return pair(b, k * 8 + g, (k + 1) * 8 + g); };
    const uint32_t fa[4] = {a_pair(g, t), a_pair(g + 8, t), a_pair(g, t + 8), a_pair(g + 8, t + 8)};
    const uint32_t fb[2] = {b_pair(t), b_pair(t + 8)};
    const float fc[4] = {c[g * 8 + t], c[g * 8 + t + 1], c[(g + 8) * 8 + t], c[(g + 8) * 8 + t + 1]};
    float fd[4];
    if (half)
        ptx::mma_m16n8k16<__half>(fd, fa, fb, fc);
    else
        ptx::mma_m16n8k16<__nv_bfloat16>(fd, fa, fb, fc);
    d[g * 8 + t] = fd[0], d[g * 8 + t + 1] = fd[1], d[(g + 8) * 8 + t] = fd[2], d[(g + 8) * 8 + t + 1] = fd[3];
}

/// A 16 x 16 tile of 16-bit elements whose rows are `stride` elements apart, as ldmatrix gives it.
template <bool Transposed>
__global__ void load_matrices(uint32_t* out, unsigned stride) {
    Smem smem;
    uint16_t* tile = smem.take<uint16_t>(16 * 64, 128);
    const unsigned lane = threadIdx.x;
    for (unsigned i = lane; i < 256; i += 32) tile[i / 16 * stride + i % 16] = static_cast<uint16_t>(i);
    __syncwarp();
    uint32_t r[4], half[2];
    ptx::ldmatrix_x4<Transposed>(r, tile + (lane % 16) * stride + lane / 16 * 8);
    ptx::ldmatrix_x2<Transposed>(half, tile + (lane % 16) * stride);
    for (unsigned m = 0; m < 4; ++m) out[lane * 6 + m] = r[m];
    for (unsigned m = 0; m < 2; ++m) out[lane * 6 + 4 + m] = half[m];
}

static __global__ void pipelined_copy(float* out, const float* in, unsigned tiles, unsigned valid) {
    Smem smem;
    float* tile[2] = {smem.take<float>(128), smem.take<float>(128)};
    const unsigned i = threadIdx.x;
    const auto load = [&](unsigned t) {
        const unsigned at = t * 128 + 4 * i;
        ptx::cp_async_16(tile[t % 2] + 4 * i, at < valid ? in + at : in, at < valid);
        ptx::cp_async_commit();
    };
    load(0);
    for (unsigned t = 0; t < tiles; ++t) {
        if (t + 1 < tiles) {
            load(t + 1);
            ptx::cp_async_wait<1>();
        } else {
            ptx::cp_async_wait<0>();
        }
        __syncwarp();
        for (unsigned j = 0; j < 4; ++j) out[t * 128 + j * 32 + i] = tile[t % 2][j * 32 + i];
        __syncwarp();
    }
}

/// Warp 0 fills a buffer that warp 1 empties, handing it over by named barriers.
static __global__ void hand_over(unsigned* out, unsigned turns) {
    SIMT_SHARED(unsigned, buffer, [32]);
    const unsigned lane = threadIdx.x % 32;
    constexpr int kFull = 1, kEmpty = 2;
    for (unsigned turn = 0; turn < turns; ++turn)
        if (threadIdx.x < 32) {
            if (turn > 0) ptx::named_barrier_wait(kEmpty, 64);
            buffer[lane] = turn * 100 + lane;
            ptx::named_barrier_arrive(kFull, 64);
        } else {
            ptx::named_barrier_wait(kFull, 64);
            out[turn * 32 + lane] = buffer[31 - lane];
            if (turn + 1 < turns) ptx::named_barrier_arrive(kEmpty, 64);
        }
}

static __global__ void count_up(unsigned* total, float* sum) {
    atomicAdd(total, 1u);
    atomicAdd(sum, 0.5f);
    atomicMax(total + 1, blockIdx.x);
}

}  // namespace ballast::test
