// What every GPU from sm_80 on has: warp functions, barriers, mma.sync, ldmatrix, cp.async, atomics.
#include <numeric>

#include "base/philox.h"
#include "kernels/simt/buffer.h"
#include "tests/simt/conformance/conformance.h"
#include "tests/simt/warp_kernels.cuh"

namespace ballast::test {
namespace {

std::vector<float> normal(size_t count, std::string_view name) {
    const Philox random(37, name);
    std::vector<float> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(random.normal(i));
    return values;
}

void record_votes(Records& records) {
    Buffer<WarpResults> warps(64);
    launch(warp_functions, 1, 64, {}, nullptr, warps.data());
    records.exact("shuffles, votes, match, reductions", warps.values());
    for (const int threads : {1, 33, 100, 256}) {
        Buffer<int> votes(256);
        launch(barrier_votes, 1, 256, {}, nullptr, votes.data(), threads);
        records.exact("__syncthreads_and, _or, _count: " + std::to_string(threads) + " threads stay", votes.values());
    }
    Buffer<unsigned> handed(7 * 32);
    launch(hand_over, 1, 64, {}, nullptr, handed.data(), 7u);
    records.exact("named barriers hand a buffer over", handed.values());
    Buffer<unsigned> total(std::vector<unsigned>{0, 0});
    Buffer<float> sum(std::vector<float>{0});
    launch(count_up, 50, 64, {}, nullptr, total.data(), sum.data());
    records.exact("atomics: counts", total.values());
    records.exact("atomics: a sum without rounding", sum.values());
}

void record_copies(Records& records) {
    constexpr SharedBytes kTile = SmemPlan().take<uint16_t>(16 * 64, 128).shared();
    for (const unsigned stride : {16u, 24u, 64u}) {
        Buffer<uint32_t> plain(32 * 6), transposed(32 * 6);
        launch(load_matrices<false>, 1, 32, kTile, nullptr, plain.data(), stride);
        launch(load_matrices<true>, 1, 32, kTile, nullptr, transposed.data(), stride);
        records.exact("ldmatrix x4 and x2, rows " + std::to_string(2 * stride) + " bytes apart", plain.values());
        records.exact("ldmatrix.trans x4 and x2, rows " + std::to_string(2 * stride) + " bytes apart",
                      transposed.values());
    }
    constexpr SharedBytes kStages = SmemPlan().take<float>(128).take<float>(128).shared();
    std::vector<float> x(5 * 128 - 12);
    std::iota(x.begin(), x.end(), 1.0f);
    const Buffer<float> in(x);
    Buffer<float> out(5 * 128);
    launch(pipelined_copy, 1, 32, kStages, nullptr, out.data(), in.data(), 5u, static_cast<unsigned>(x.size()));
    records.exact("cp.async in two stages, with zero fill", out.values());
}

void record_products(Records& records) {
    const Buffer<float> a(normal(16 * 16, "a")), b(normal(16 * 8, "b")), c(normal(16 * 8, "c"));
    for (const bool half : {false, true}) {
        Buffer<float> d(128);
        launch(matrix_product_tile, 1, 32, {}, nullptr, d.data(), a.data(), b.data(), c.data(), half);
        records.relative(std::string("mma.sync m16n8k16 ") + (half ? "fp16" : "bf16"), 2e-6, d.values());
    }
}

}  // namespace

void record_warps(Records& records) {
    record_votes(records);
    record_copies(records);
    record_products(records);
}

}  // namespace ballast::test
