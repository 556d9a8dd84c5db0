// The wrapper around oneDNN itself. bf16 products run only where the processor has units for them; the same code runs in f32 here.
#include "kernels/cpu/onednn.h"

#include <array>
#include <functional>

#include "tests/kernels/reference/layers.h"

using namespace ballast;
using namespace ballast::test;

namespace {

/// The library's two ways.
using Product = std::function<void(const cpu::MatmulShape&, const void* a, const void* b, const void* bias, void* c)>;
const Product kMatmul = cpu::onednn_matmul;
const Product kSgemm = [](const cpu::MatmulShape& shape, const void* a, const void* b, const void*, void* c) {
    cpu::onednn_sgemm(shape, static_cast<const float*>(a), static_cast<const float*>(b), static_cast<float*>(c));
};

/// One product with every combination of transposed operands, accumulation and, where there may be one, bias.
void check_products(const Product& product, Dtype dtype, Dtype c_dtype, bool may_be_biased = true) {
    const int64_t M = 37, N = 65, K = 50;
    for (bool a_transposed : {false, true})
        for (bool b_transposed : {false, true})
            for (bool accumulate : {false, true})
                for (bool biased : {false, true}) {
                    if (biased && (accumulate || !may_be_biased)) continue;
                    TestTensor a(dtype, {M, K}, normal(M * K, "a")), b(dtype, {K, N}, normal(K * N, "b")),
                        bias(dtype, {N}, normal(N, "bias")), c(c_dtype, {M, N}, normal(M * N, "c"));
                    Values expected = reference_matmul(a.get(), a_transposed, b.get(), b_transposed, M, N, K);
                    for (size_t i = 0; i < expected.size(); ++i) {
                        const auto at = static_cast<int64_t>(i);
                        expected[i] += accumulate ? c.at(at) : biased ? bias.at(at % N) : 0;
                    }
                    for (int repeat = 0; repeat < 2; ++repeat) {  // the second time from the cache
                        c.set(normal(M * N, "c"));
                        product({dtype, c_dtype, M, N, K, a_transposed ? 1 : K, a_transposed ? M : 1, b_transposed ? 1 : N,
                                 b_transposed ? K : 1, N, accumulate, biased},
                                a.tensor().data, b.tensor().data, bias.tensor().data, c.tensor().data);
                        check_close("c", c, expected);
                    }
                }
}

/// Parts of one and of two rows and columns, read where they lie in larger operands.
void check_parts(const Product& product, Dtype dtype) {
    const int64_t M = 37, N = 65, K = 50;
    const TestTensor a(dtype, {M, K}, normal(M * K, "a")), b(dtype, {K, N}, normal(K * N, "b"));
    for (bool a_transposed : {false, true})
        for (bool b_transposed : {false, true}) {
            const Values whole = reference_matmul(a.get(), a_transposed, b.get(), b_transposed, M, N, K);
            for (int64_t m : {1, 2, 16})
                for (int64_t n : {1, 2, 16}) {
                    CAPTURE(a_transposed, b_transposed, m, n);
                    const int64_t i = M - m, j = N - n;
                    const cpu::MatmulShape shape{dtype, Dtype::f32, m, n, K, a_transposed ? 1 : K, a_transposed ? M : 1,
                                                 b_transposed ? 1 : N, b_transposed ? K : 1, n, false, false};
                    const auto part = [&](const TestTensor& x, int64_t at) {
                        return static_cast<const char*>(x.tensor().data) + at * static_cast<int64_t>(size_of(dtype));
                    };
                    TestTensor c(Dtype::f32, {m, n});
                    product(shape, part(a, i * shape.a_row), part(b, j * shape.b_column), nullptr, c.tensor().data);
                    Values expected;
                    for (int64_t r = i; r < M; ++r)
                        expected.insert(expected.end(), whole.begin() + r * N + j, whole.begin() + (r + 1) * N);
                    check_close("c", c, expected);
                }
        }
}

}  // namespace

TEST_CASE("onednn: parts of larger operands", "[cpu]") {
    check_parts(kMatmul, Dtype::f32);
    check_parts(kSgemm, Dtype::f32);
    if (cpu::onednn_bf16_units() != cpu::Bf16Units::none) check_parts(kMatmul, Dtype::bf16);
}

TEST_CASE("onednn: cached products in f32", "[cpu]") { check_products(kMatmul, Dtype::f32, Dtype::f32); }

TEST_CASE("onednn: sgemm", "[cpu]") { check_products(kSgemm, Dtype::f32, Dtype::f32, false); }

TEST_CASE("onednn: bf16 products where the processor has units for them", "[cpu]") {
    if (cpu::onednn_bf16_units() == cpu::Bf16Units::none) {
        WARN("no fast bf16 here: bf16 operands are widened instead, which the linear tests cover");
        return;
    }
    check_products(kMatmul, Dtype::bf16, Dtype::f32);
    check_products(kMatmul, Dtype::bf16, Dtype::bf16);
}

TEST_CASE("onednn: threads that meet a new shape at the same time", "[cpu]") {
    constexpr int64_t kShapes = 24, kRows = 8;
    const Values x = normal(kRows * kShapes, "a"), y = normal(kShapes * kRows, "b");
    const TestTensor a(Dtype::f32, {kRows, kShapes}, x), b(Dtype::f32, {kShapes, kRows}, y);
    ThreadPool pool(4);
    std::vector<std::array<float, kRows * kRows>> results(4);
    for (int64_t k = 1; k <= kShapes; ++k) {
        pool.parallel_for(4, [&](int64_t task) {
            cpu::onednn_matmul({Dtype::f32, Dtype::f32, kRows, kRows, k, kShapes, 1, kRows, 1, kRows, false, false},
                               a.tensor().data, b.tensor().data, nullptr, results[static_cast<size_t>(task)].data());
        });
        for (const auto& result : results) REQUIRE(result == results[0]);
        Values first(results[0].begin(), results[0].end()), part;
        for (int64_t i = 0; i < kRows; ++i)
            part.insert(part.end(), x.begin() + i * kShapes, x.begin() + i * kShapes + k);
        const Values expected = reference_matmul(part, false, Values(y.begin(), y.begin() + k * kRows), false, kRows, kRows, k);
        for (size_t i = 0; i < first.size(); ++i) REQUIRE(first[i] == Approx(expected[i]).margin(1e-5));
    }
}
