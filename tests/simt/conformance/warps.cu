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

std::vector<WarpResults> warp_results() {
    Buffer<WarpResults> warps(64);
    launch(warp_functions, 1, 64, {}, nullptr, warps.data());
    return warps.values();
}

std::vector<int> votes_of(int threads) {
    Buffer<int> votes(256);
    launch(barrier_votes, 1, 256, {}, nullptr, votes.data(), threads);
    return votes.values();
}

std::vector<unsigned> handed_over() {
    Buffer<unsigned> handed(7 * 32);
    launch(hand_over, 1, 64, {}, nullptr, handed.data(), 7u);
    return handed.values();
}

struct Totals {
    std::vector<unsigned> counts;
    std::vector<float> sum;
};
Totals counted_up() {
    Buffer<unsigned> total(std::vector<unsigned>{0, 0});
    Buffer<float> sum(std::vector<float>{0});
    launch(count_up, 50, 64, {}, nullptr, total.data(), sum.data());
    return {total.values(), sum.values()};
}

template <bool Transposed>
std::vector<uint32_t> loaded_matrices(unsigned stride) {
    Buffer<uint32_t> loaded(32 * 6);
    launch(load_matrices<Transposed>, 1, 32, SmemPlan().take<uint16_t>(16 * 64, 128).shared(), nullptr, loaded.data(),
           stride);
    return loaded.values();
}

std::vector<float> copied_in_stages() {
    std::vector<float> x(5 * 128 - 12);
    std::iota(x.begin(), x.end(), 1.0f);
    const Buffer<float> in(x);
    Buffer<float> out(5 * 128);
    launch(pipelined_copy, 1, 32, SmemPlan().take<float>(128).take<float>(128).shared(), nullptr, out.data(), in.data(),
           5u, static_cast<unsigned>(x.size()));
    return out.values();
}

std::vector<float> product_tile(bool half) {
    const Buffer<float> a(normal(16 * 16, "a")), b(normal(16 * 8, "b")), c(normal(16 * 8, "c"));
    Buffer<float> d(128);
    launch(matrix_product_tile, 1, 32, {}, nullptr, d.data(), a.data(), b.data(), c.data(), half);
    return d.values();
}

}  // namespace

void record_warps(Recorder& recorder) {
    recorder.exact("shuffles, votes, match, reductions", warp_results);
    for (const int threads : {1, 33, 100, 256})
        recorder.exact("__syncthreads_and, _or, _count: " + std::to_string(threads) + " threads stay",
                       [threads] { return votes_of(threads); });
    recorder.exact("named barriers hand a buffer over", handed_over);
    recorder.exact("atomics: counts", [] { return counted_up().counts; });
    recorder.exact("atomics: a sum without rounding", [] { return counted_up().sum; });
}

void record_copies(Recorder& recorder) {
    for (const unsigned stride : {16u, 24u, 64u}) {
        const std::string rows = " x4 and x2, rows " + std::to_string(2 * stride) + " bytes apart";
        recorder.exact("ldmatrix" + rows, [stride] { return loaded_matrices<false>(stride); });
        recorder.exact("ldmatrix.trans" + rows, [stride] { return loaded_matrices<true>(stride); });
    }
    recorder.exact("cp.async in two stages, with zero fill", copied_in_stages);
}

void record_mma(Recorder& recorder) {
    for (const bool half : {false, true})
        recorder.relative(std::string("mma.sync m16n8k16 ") + (half ? "fp16" : "bf16"), 2e-6,
                          [half] { return product_tile(half); });
}

}  // namespace ballast::test
