// The executor does what a GPU does, to the lane; faults are in faults_test.cpp.
#include <numeric>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/philox.h"
#include "kernels/simt/buffer.h"
#include "kernels/simt/ptx.cuh"
#include "kernels/simt/smem.cuh"
#include "tests/catch.h"
#include "tests/simt/orders.h"

using namespace ballast;
using namespace ballast::simt;
using namespace ballast::test;
using Catch::Matchers::ContainsSubstring;

namespace {

std::vector<unsigned> iota(size_t count) {
    std::vector<unsigned> values(count);
    std::iota(values.begin(), values.end(), 0u);
    return values;
}

/// The text of the Error a call throws.
template <class Call>
std::string error_of(const Call& call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

__global__ void write_indices(unsigned* out) {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

struct WarpResults {
    unsigned index, up, down, exclusive_or, narrow, ballot, any, all, match, add, minimum, maximum, partial;
};
__global__ void warp_functions(WarpResults* out) {
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

__global__ void barrier_votes(int* out, int threads_that_stay) {
    const int i = static_cast<int>(threadIdx.x);
    if (i >= threads_that_stay) return;  // the barriers no longer wait for these
    const int all = __syncthreads_and(i < 1000), any = __syncthreads_or(i == 7), count = __syncthreads_count(i % 2);
    out[i] = all * 1000000 + any * 10000 + count;
}

__global__ void matrix_product_tile(float* d, const float* a, const float* b, const float* c, bool half) {
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

__global__ void pipelined_copy(float* out, const float* in, unsigned tiles, unsigned valid) {
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
__global__ void hand_over(unsigned* out, unsigned turns) {
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

__global__ void count_up(unsigned* total, float* sum) {
    atomicAdd(total, 1u);
    atomicAdd(sum, 0.5f);
    atomicMax(total + 1, blockIdx.x);
}

__global__ void throws(int* out) {
    __syncthreads();
    if (threadIdx.x == 40) __trap();
    __syncthreads();
    out[threadIdx.x] = 1;
}

__global__ void misaligned_row(uint32_t* out) {
    Smem smem;
    uint16_t* tile = smem.take<uint16_t>(512);
    uint32_t r[4];
    ptx::ldmatrix_x4<false>(r, tile + threadIdx.x * 8 + 1);
    out[0] = r[0];
}

__global__ void not_shared(const float* x) { ptx::cp_async_16(const_cast<float*>(x), x); }

}  // namespace

TEST_CASE("simt executor: every thread of every block runs once, with its indices") {
    for_each_order([] {
        for (unsigned os_threads : {1u, 3u}) {
            simt::options().os_threads = os_threads;
            Buffer<unsigned> out(2 * 3 * 4 * 5 * 6 * 7);
            launch(write_indices, dim3(2, 3, 4), dim3(5, 6, 7), {}, nullptr, out.data());
            const auto values = out.values();
            for (unsigned i = 0; i < values.size(); ++i) REQUIRE(values[i] == i / 210 * 1000 + i % 210);
        }
    });
}

TEST_CASE("simt executor: warp functions") {
    for_each_order([] {
        Buffer<WarpResults> out(64);
        launch(warp_functions, 1, 64, {}, nullptr, out.data());
        const auto values = out.values();
        for (unsigned i = 0; i < 64; ++i) {
            const unsigned lane = i % 32, base = i / 32 * 32;
            const auto value = [&](unsigned of_lane) { return 3 * (base + of_lane) + 1; };
            unsigned ballot = 0, match = 0, add = 0;
            for (unsigned j = 0; j < 32; ++j) {
                ballot |= (j % 3 == 0 ? 1u : 0u) << j;
                match |= (j % 5 == lane % 5 ? 1u : 0u) << j;
                add += value(j);
            }
            const WarpResults& r = values[i];
            INFO("thread " << i);
            CHECK(r.index == value(5));
            CHECK(r.up == value(lane < 3 ? lane : lane - 3));
            CHECK(r.down == value(lane + 30 > 31 ? lane : lane + 30));
            CHECK(r.exclusive_or == value(lane ^ 9));
            CHECK(r.narrow == value(lane % 8 + 6 > 7 ? lane : lane + 6));
            CHECK(r.ballot == ballot);
            CHECK(r.any == 0);
            CHECK(r.all == 1);
            CHECK(r.match == match);
            CHECK(r.add == add);
            CHECK(r.minimum == value(0));
            CHECK(r.maximum == value(31));
            CHECK(r.partial == (lane < 10 ? 10 : 44));
        }
    });
}

TEST_CASE("simt executor: barriers vote, and do not wait for threads that have returned") {
    for_each_order([] {
        for (int threads : {1, 33, 100, 256}) {
            Buffer<int> out(256);
            launch(barrier_votes, 1, 256, {}, nullptr, out.data(), threads);
            CHECK(out.values()[0] == 1000000 + (threads > 7 ? 10000 : 0) + threads / 2);
        }
    });
}

TEST_CASE("simt executor: mma.sync is a matrix product") {
    const Philox random(1, "mma");
    std::vector<float> a(16 * 16), b(16 * 8), c(16 * 8);
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(bf16(static_cast<float>(random.normal(i))));
    for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(bf16(static_cast<float>(random.normal(1000 + i))));
    for (size_t i = 0; i < c.size(); ++i) c[i] = static_cast<float>(random.normal(2000 + i));
    for_each_order([&] {
        for (bool half : {false, true}) {
            Buffer<float> d(128);
            const Buffer<float> da(a), db(b), dc(c);
            launch(matrix_product_tile, 1, 32, {}, nullptr, d.data(), da.data(), db.data(), dc.data(), half);
            const auto values = d.values();
            for (size_t m = 0; m < 16; ++m)
                for (size_t n = 0; n < 8; ++n) {
                    double expected = static_cast<double>(c[m * 8 + n]);
                    for (size_t k = 0; k < 16; ++k)
                        expected += static_cast<double>(a[m * 16 + k]) * static_cast<double>(b[k * 8 + n]);
                    CHECK(std::abs(static_cast<double>(values[m * 8 + n]) - expected) <= 1e-5);
                }
        }
    });
}

TEST_CASE("simt executor: ldmatrix hands out 8 x 8 matrices, plain and transposed, and counts bank conflicts") {
    constexpr SharedBytes kShared = SmemPlan().take<uint16_t>(16 * 64, 128).shared();
    const auto element = [](unsigned row, unsigned column) { return row * 16 + column; };
    for_each_order([&] {
        for (unsigned stride : {16u, 24u, 64u}) {
            Buffer<uint32_t> plain(32 * 6), transposed(32 * 6);
            simt::statistics() = {};
            launch(load_matrices<false>, 1, 32, kShared, nullptr, plain.data(), stride);
            // Eight rows of 32 bytes lie in four groups of banks, rows of 48 bytes in eight, rows of 128 bytes in one.
            const uint64_t per_matrix = stride == 16 ? 1 : stride == 24 ? 0 : 7;
            CHECK(simt::statistics().bank_conflicts == 6 * per_matrix);
            CHECK(simt::statistics().matrix_loads == 2);
            launch(load_matrices<true>, 1, 32, kShared, nullptr, transposed.data(), stride);
            const auto p = plain.values(), t = transposed.values();
            for (unsigned lane = 0; lane < 32; ++lane)
                for (unsigned m = 0; m < 6; ++m) {
                    const unsigned row = m % 2 * 8, column = m < 4 ? m / 2 * 8 : 0, g = lane / 4, pair = lane % 4 * 2;
                    CHECK(p[lane * 6 + m] ==
                          (element(row + g, column + pair) | element(row + g, column + pair + 1) << 16));
                    CHECK(t[lane * 6 + m] ==
                          (element(row + pair, column + g) | element(row + pair + 1, column + g) << 16));
                }
        }
    });
}

TEST_CASE("simt executor: cp.async in two stages, with zero fill") {
    constexpr SharedBytes kShared = SmemPlan().take<float>(128).take<float>(128).shared();
    for_each_order([&] {
        std::vector<float> x(5 * 128);
        std::iota(x.begin(), x.end(), 1.0f);
        const unsigned valid = 5 * 128 - 12;
        x.resize(valid);  // beyond lies nothing
        const Buffer<float> in(x);
        Buffer<float> out(5 * 128);
        launch(pipelined_copy, 1, 32, kShared, nullptr, out.data(), in.data(), 5, valid);
        const auto values = out.values();
        for (unsigned i = 0; i < values.size(); ++i)
            REQUIRE(values[i] == (i < valid ? static_cast<float>(i + 1) : 0.0f));
    });
}

TEST_CASE("simt executor: named barriers hand a buffer over") {
    for_each_order([] {
        Buffer<unsigned> out(7 * 32);
        launch(hand_over, 1, 64, {}, nullptr, out.data(), 7);
        const auto values = out.values();
        for (unsigned i = 0; i < values.size(); ++i) REQUIRE(values[i] == i / 32 * 100 + 31 - i % 32);
    });
}

TEST_CASE("simt executor: atomics between blocks on several OS threads") {
    simt::options().os_threads = 4;
    Buffer<unsigned> total(std::vector<unsigned>{0, 0});
    Buffer<float> sum(std::vector<float>{0});
    launch(count_up, 50, 64, {}, nullptr, total.data(), sum.data());
    simt::options().os_threads = 1;
    CHECK(total.values() == std::vector<unsigned>{3200, 49});
    CHECK(sum.values()[0] == 1600.0f);
}

TEST_CASE("simt executor: what a kernel does wrong names its line, block and thread") {
    for_each_order([] {
        Buffer<int> out(64);
        CHECK_THAT(error_of([&] { launch(throws, 2, 64, {}, nullptr, out.data()); }),
                   ContainsSubstring("executor_test.cpp:") && ContainsSubstring("__trap()") &&
                       ContainsSubstring("thread (40,0,0)"));
        Buffer<uint32_t> word(1);
        constexpr SharedBytes kTile = SmemPlan().take<uint16_t>(512).shared();
        CHECK_THAT(error_of([&] { launch(misaligned_row, 1, 32, kTile, nullptr, word.data()); }),
                   ContainsSubstring("16-byte aligned"));
        const Buffer<float> x(64);
        CHECK_THAT(error_of([&] { launch(not_shared, 1, 1, {}, nullptr, x.data()); }),
                   ContainsSubstring("not in shared memory"));
        // … and the executor is whole again afterwards.
        Buffer<unsigned> indices(64);
        launch(write_indices, 1, 64, {}, nullptr, indices.data());
        CHECK(indices.values() == iota(64));
    });
}

TEST_CASE("simt executor: launches that no GPU takes") {
    Buffer<unsigned> out(1);
    CHECK_THAT(error_of([&] { launch(write_indices, 1, 1025, {}, nullptr, out.data()); }), ContainsSubstring("1025"));
    CHECK_THAT(error_of([&] { launch(write_indices, 1, 0, {}, nullptr, out.data()); }), ContainsSubstring("0 threads"));
    CHECK_THAT(error_of([&] { launch(write_indices, dim3(1, 0), 32, {}, nullptr, out.data()); }),
               ContainsSubstring("grid of 1 x 0 x 1"));
    CHECK_THAT(error_of([&] { launch(write_indices, 1, 32, {228 << 10}, nullptr, out.data()); }),
               ContainsSubstring("shared memory"));
    CHECK_THROWS_AS(order_of("backwards"), Error);
}
