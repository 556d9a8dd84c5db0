// wgmma against a plain double loop: every N, both types, A from shared memory and registers, both majors, all
// swizzles.
#include <vector>

#include "tests/catch.h"
#include "tests/simt/operand_image.h"
#include "tests/simt/orders.h"

using namespace ballast;
using namespace ballast::simt;
using namespace ballast::test;
using ptx::Major;

namespace {

double relative_error(const std::vector<float>& x, const std::vector<double>& reference) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < x.size(); ++i) {
        difference += (x[i] - reference[i]) * (x[i] - reference[i]);
        norm += reference[i] * reference[i];
    }
    return std::sqrt(difference / norm);
}

template <class T, int N, Major A, Major B, bool InRegisters>
void check_product() {
    const auto a = random_matrix<T>(kProductRows, kProductK, "a");
    const auto b = random_matrix<T>(kProductK, N, "b");
    const auto c = random_matrix<float>(kProductRows, N, "c");
    std::vector<double> reference(c.begin(), c.end());
    for (size_t m = 0; m < kProductRows; ++m)
        for (size_t n = 0; n < N; ++n)
            for (size_t k = 0; k < kProductK; ++k)
                reference[m * N + n] += static_cast<double>(static_cast<float>(a[m * kProductK + k])) *
                                        static_cast<double>(static_cast<float>(b[k * N + n]));
    for (const Swizzle a_swizzle : kSwizzles)
        for (const Swizzle b_swizzle : kSwizzles) {
            if (InRegisters && a_swizzle != Swizzle::none) continue;
            const auto d = run_product<T, N, A, B, InRegisters>(a, b, c, a_swizzle, b_swizzle);
            const double error = relative_error(d, reference);
            CAPTURE(N, A, B, InRegisters, static_cast<int>(a_swizzle), static_cast<int>(b_swizzle), error);
            CHECK(error <= 1e-6);
        }
}

template <class T, int N>
void check_products() {
    check_product<T, N, Major::k, Major::k, false>();
    check_product<T, N, Major::k, Major::mn, false>();
    check_product<T, N, Major::mn, Major::k, false>();
    check_product<T, N, Major::mn, Major::mn, false>();
    check_product<T, N, Major::k, Major::k, true>();
    check_product<T, N, Major::k, Major::mn, true>();
}

}  // namespace

TEST_CASE("simt hopper: wgmma of narrow tiles, all majors and swizzles, A in shared memory and in registers") {
    check_products<__nv_bfloat16, 8>();
    check_products<__nv_bfloat16, 16>();
    check_products<__nv_bfloat16, 32>();
    check_products<__half, 32>();
}

TEST_CASE("simt hopper: wgmma of middle-sized tiles") {
    check_products<__nv_bfloat16, 48>();
    check_products<__nv_bfloat16, 64>();
    check_products<__nv_bfloat16, 96>();
    check_products<__half, 64>();
}

TEST_CASE("simt hopper: wgmma of wide tiles") {
    check_products<__nv_bfloat16, 128>();
    check_products<__nv_bfloat16, 192>();
    check_products<__nv_bfloat16, 256>();
}

TEST_CASE("simt hopper: two groups of products under way, and accumulators as the next product's operand") {
    const auto a = random_matrix<__nv_bfloat16>(64, 64, "a"), b = random_matrix<__nv_bfloat16>(64, 64, "b");
    const auto at = [](const std::vector<__nv_bfloat16>& x, size_t row, size_t column) {
        return static_cast<double>(static_cast<float>(x[row * 64 + column]));
    };
    std::vector<double> reference(64 * 64, 0.0);
    for (size_t m = 0; m < 64; ++m) {
        std::array<__nv_bfloat16, 64> product{};
        for (size_t n = 0; n < 64; ++n) {
            double sum = 0;
            for (size_t k = 0; k < 64; ++k) sum += at(a, m, k) * at(b, k, n);
            product[n] = __nv_bfloat16(static_cast<float>(sum));
        }
        for (size_t n = 0; n < 64; ++n)
            for (size_t k = 0; k < 64; ++k)
                reference[m * 64 + n] += static_cast<double>(static_cast<float>(product[k])) * at(b, k, n);
    }
    for_each_order([&] {
        CHECK(relative_error(run_chained_products(a, b), reference) <= 1e-3);  // rounding to bf16 may differ
    });
}
