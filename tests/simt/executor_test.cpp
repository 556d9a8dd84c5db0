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
#include "tests/simt/warp_kernels.cuh"

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
